"""KV files on disk: leases, unlinking, the budget, checking and rebuilding."""
