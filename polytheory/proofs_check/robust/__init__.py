"""Claims of robust planning."""
