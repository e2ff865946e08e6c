"""Claims of the exploration family."""
