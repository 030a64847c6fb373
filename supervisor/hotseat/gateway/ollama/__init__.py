"""Ollama's dialect, for clients that speak nothing else: bodies in, lines of JSON out."""
