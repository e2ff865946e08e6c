"""Counting in simulations, and code with one line changed."""

from __future__ import annotations

from types import ModuleType

from scipy.stats import binom

from polytheory.proofs_check._mutants import load
from polytheory.proofs_check.claims import Line

FALSE_ALARM = 1e-6  # of each check below, if what it checks is true


def is_at_least(hits: int, runs: int, share: float) -> bool:
    """Whether "the probability is at least ``share``" survives: not rejected by the exact binomial test."""
    return binom.cdf(hits, runs, share) >= FALSE_ALARM


def is_at_most(hits: int, runs: int, share: float) -> bool:
    """Whether "the probability is at most ``share``" survives."""
    return binom.sf(hits - 1, runs, share) >= FALSE_ALARM


def broken(module: str, old: str, new: str) -> ModuleType:
    """The package of estimates afresh, with a text that occurs once in ``module`` replaced; returns that module."""
    return load("lab", "estimates", module, Line(f"{old} -> {new}", room="reference", old=old, new=new, module=module))
