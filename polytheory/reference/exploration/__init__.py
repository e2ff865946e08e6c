"""Exploration: methods that must find out about the world before they can do well in it."""
