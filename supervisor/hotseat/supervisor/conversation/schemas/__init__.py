"""JSON schemas of answers and calls: what is refused of them before a model is seated. Pure."""
