"""Distributional value iteration on a grid of stocks, in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.distributional.iteration import ValueIteration
from polytheory.scaled.distributional import sweeps


@dataclass(frozen=True, eq=False)
class DistributionalValueIteration(ValueIteration):
    """Sweep the laws of the return over states and stocks, greedily for an objective; see the reference for the theorem.

    All states, stocks, actions and outcomes are one batch. Fields as in the reference.
    """

    sweeps: ClassVar[Any] = sweeps
