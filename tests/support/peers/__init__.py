"""The other end of a socket: of clients, of a daemon, of a worker."""
