"""Who gets the seat next: enacts the scheduler, asked-for swaps, releases."""
