"""A request from accept to its one end, its output, its session as it sees it."""
