"""How models write tool calls, one module a kind of writing, and what is read from it."""
