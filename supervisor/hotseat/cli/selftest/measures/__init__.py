"""The processes of `hotseat selftest` that need no mlx: machine, disk, a daemon of its own."""
