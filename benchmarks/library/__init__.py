"""Benchmarks of the model library: what a prepared model saves, and what preparing costs."""
