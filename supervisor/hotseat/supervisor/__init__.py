"""The supervisor daemon: decides everything, computes nothing, never imports mlx."""
