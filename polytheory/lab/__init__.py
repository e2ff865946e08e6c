"""The laboratory: what is run, compared and shown from all three rooms together."""
