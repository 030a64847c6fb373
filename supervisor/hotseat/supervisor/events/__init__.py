"""What happened: event log, journal, figures."""
