"""Claims of alignment."""
