"""Samples of the machine and of the worker, and their readers."""
