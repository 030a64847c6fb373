"""Which models there are, and what of them fits into memory."""
