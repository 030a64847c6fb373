"""How much KV the disk may hold. Pure."""
