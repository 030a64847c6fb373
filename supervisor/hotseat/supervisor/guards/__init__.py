"""What looks after the machine and the worker by the clock."""
