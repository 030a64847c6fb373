"""The model in memory: loading, caches, budget, letting go."""
