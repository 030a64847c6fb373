"""Tiny models of the architectures that people use."""
