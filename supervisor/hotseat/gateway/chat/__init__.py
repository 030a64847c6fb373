"""OpenAI's Chat Completions and Completions: bodies in, answers and streams out. Pure."""
