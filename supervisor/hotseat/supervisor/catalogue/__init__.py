"""SQLite: what is durable of requests, sessions, KV and the journal, on a thread of its own."""
