"""What of a model fits into memory. Pure."""
