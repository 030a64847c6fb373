"""What is run, how it is judged and what may be told of it. Pure."""
