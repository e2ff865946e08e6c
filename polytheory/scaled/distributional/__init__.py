"""Return distributions: dynamic programming on laws of returns, with a stock of what was collected so far."""
