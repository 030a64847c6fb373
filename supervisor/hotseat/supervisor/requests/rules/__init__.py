"""Output within a reader's credit, what is kept of it, whom a death is blamed on. Pure."""
