"""hotseat beside other servers and libraries."""
