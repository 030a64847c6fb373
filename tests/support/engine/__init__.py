"""The engine in this process, and supervisors that are no daemons."""
