"""Weights that are read while other layers compute: where they lie, reading, rooms, hooks."""
