"""Agent programs over the gateway: what each is told, and running one."""
