"""Exploration in torch: many replicas at once, and deep forms."""
