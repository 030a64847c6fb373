"""Figures of hotseat as ratios within one run: `python -m benchmarks`."""
