"""Theorems as executable claims that both rooms must satisfy, and mutants that must fail them."""
