"""Weights, and K and V, that are read while other layers compute: places, rooms, hooks."""
