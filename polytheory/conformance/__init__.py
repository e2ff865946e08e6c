"""What other code can be checked with: strategies that generate problems, and checks."""
