"""The seat: its state, the worker process, the standby, the gate for memory."""
