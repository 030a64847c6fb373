"""When memory is short, the Mac may sleep, a worker is stuck, boots were unclean. Pure."""
