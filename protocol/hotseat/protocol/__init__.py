"""What passes between the processes: types of wire and link, limits, errors; no sockets."""
