"""OpenAI's Responses: bodies in, answers and streams out, and what is kept of them."""
