"""Which KV goes first when there is too much of it. Pure."""
