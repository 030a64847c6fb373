"""Tiny models, real ones, and records."""
