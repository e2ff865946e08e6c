"""Distributional policy iteration on a grid of stocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.distributional.iteration import PolicyIteration
from polytheory.reference.distributional import sweeps


@dataclass(frozen=True, eq=False)
class DistributionalPolicyIteration(PolicyIteration):
    """Find the laws of a policy, act greedily one step ahead of them, and so on [pires2025].

    One step evaluates the policy (all stages, or sweeps until ``tol / 10``) and improves it. Guarantee: values never fall;
    with horizon H the policy is optimal after at most H improvements. A discounted problem ends when no value could gain, or
    has gained, more than ``tol``. Fields as in `DistributionalValueIteration`; the first policy takes action 0.
    """

    sweeps: ClassVar[Any] = sweeps
