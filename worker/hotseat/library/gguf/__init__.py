"""GGUF files: what they hold, and their conversion."""
