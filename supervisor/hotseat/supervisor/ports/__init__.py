"""Sockets: the clients' and the worker's."""
