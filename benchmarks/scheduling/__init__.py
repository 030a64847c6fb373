"""The scheduler against simple policies, on a simulated machine."""
