"""Sampled episodes: one struct of arrays with one set of field names in every room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytheory._show import compact
from polytheory._typing import Array, Bool, Float, Int, Shaped


@dataclass(frozen=True, eq=False)
class Trajectories:
    """n rows of at most t steps, NumPy in the reference and torch in the scaled room.

    Row i belongs to replica ``i // (n / replicas)``: rows are ordered replica-major. Entries after the end of an
    episode are masked and hold zeros.

    Fields:
        states: [n, t] state in which the action was taken (None when states are token prefixes).
        actions: [n, t] action, or token id; [n, t, k] where an action is k numbers.
        rewards: [n, t] reward of the transition.
        mask: [n, t] True where a step was taken.
        log_probs_sampler: [n, t] natural log-probability of the action under the policy that sampled it, float64, after
            temperature and truncation of the sampler; None when the sampler did not record it.
        final_states: [n] state after the last step taken.
        finished: [n] True when the episode ended in a terminal state or at the horizon, False when truncated.
        group: [n] group id (rows that share a prompt or start).
        score: [n] sequence reward (language models), or None.
        columns: frozen policies' log-probs and the like by name (``log_probs_old``, ``log_probs_ref``...). Current
            log-probs are never stored: they are computed at the point of use.
    """

    states: Shaped[Array, "n t *obs"] | None
    actions: Shaped[Array, "n t *action"]
    rewards: Float[Array, "n t"]
    mask: Bool[Array, "n t"]
    log_probs_sampler: Float[Array, "n t"] | None = None
    final_states: Shaped[Array, "n *obs"] | None = None
    finished: Bool[Array, " n"] | None = None
    group: Int[Array, " n"] | None = None
    score: Float[Array, " n"] | None = None
    columns: dict[str, Any] = field(default_factory=dict)

    __repr__ = compact

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.actions.shape[0])

    @property
    def lengths(self) -> Int[Array, " n"]:
        """Steps taken in each row."""
        return self.mask.sum(-1)


def discounts(gamma: float, t: int) -> Float[np.ndarray, " t"]:
    """``gamma^0 .. gamma^(t-1)``: the only place where powers of the discount are taken (0^0 = 1)."""
    return np.power(float(gamma), np.arange(t))
