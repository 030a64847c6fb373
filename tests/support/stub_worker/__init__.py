"""A worker without mlx: the same process and link, faults on request."""
