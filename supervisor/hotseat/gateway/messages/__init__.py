"""Anthropic's Messages: bodies in, answers and streams out. Pure."""
