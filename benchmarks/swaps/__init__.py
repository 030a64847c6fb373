"""What a swap costs, in time and in memory."""
