"""Writing to a terminal: styles, tables, errors, figures."""
