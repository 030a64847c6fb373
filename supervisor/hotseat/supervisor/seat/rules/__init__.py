"""The seat's table: which event leads where, with which effects. Pure."""
