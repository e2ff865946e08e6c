"""Claims of dynamic programming on return distributions."""
