"""Which request runs, which model gets the seat, and when. Pure."""
