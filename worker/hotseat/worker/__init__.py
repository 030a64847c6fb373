"""The worker process: runs one model, decides nothing, holds no durable truth."""
