"""Distributional policy iteration on a grid of stocks, in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.distributional.iteration import PolicyIteration
from polytheory.scaled.distributional import sweeps


@dataclass(frozen=True, eq=False)
class DistributionalPolicyIteration(PolicyIteration):
    """Find the laws of a policy, act greedily one step ahead of them, and so on; see the reference for the theorem."""

    sweeps: ClassVar[Any] = sweeps
