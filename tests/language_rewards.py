"""Rewards of one's own, as a user would write them."""

from __future__ import annotations


def zero(completions):
    """Nothing is ever right."""
    return [0.0] * len(completions)


def length(completions):
    """The longer, the better: something always differs."""
    return [float(len(text)) for text in completions]
