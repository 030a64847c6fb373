"""The proof: the same work under one byte limit, with control and without. Linux and root."""
