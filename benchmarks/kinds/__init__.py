"""Which architectures of mlx-lm are served, and what works with each."""
