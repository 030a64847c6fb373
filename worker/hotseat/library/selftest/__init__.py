"""The processes of `hotseat selftest` that need mlx or the worker: each measures one thing."""
