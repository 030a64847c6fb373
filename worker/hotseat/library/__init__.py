"""Import and registration of models, in a process of its own."""
