"""Alignment: rewards designed for what the policy that optimises them does."""
