"""Distributional value iteration on a grid of stocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.distributional.iteration import ValueIteration
from polytheory.reference.distributional import sweeps


@dataclass(frozen=True, eq=False)
class DistributionalValueIteration(ValueIteration):
    """Sweep the laws of the return over states and stocks, greedily for an objective [pires2025].

    Setting: a known finite MDP with a horizon, or discounted; rewards are numbers, or vectors (``rewards=``) of up to three
    quantities with ``representation="utility"``.
    Update: ``eta(s, c) <- law of R + gamma G'``, ``G' ~ eta(S', (c + R) / gamma)``, for the action with the best
    ``K(law of c + G)``. Of utilities only ``U(s, c) = E f(c + G)`` is kept, ``U(s, c) <- max_a alpha E U(S', (c + R) / gamma)``
    with ``f(gamma x) = alpha f(x)``.
    Guarantee: for objectives indifferent to mixtures and to gamma, Lipschitz with constant L: the values are within ``bound``
    of the best over all history-dependent policies; without grid errors that is ``L gamma^n max |G|`` after n sweeps, and 0
    at the end of a finite horizon. Where returns lie on a lattice (gamma = 1) the default grid has no error.

    Fields: see `polytheory.distributional.settings.StockSettings`.
    """

    sweeps: ClassVar[Any] = sweeps
