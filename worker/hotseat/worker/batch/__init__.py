"""The batch: prompts on their way in, rows that decode, how each of them ends."""
