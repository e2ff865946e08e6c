"""Robust planning: the best policy against the worst transition law of an ambiguity set."""
