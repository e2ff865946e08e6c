"""Policies: what a learner samples from and what a guarantee speaks of.

The protocol is batched over n rows and allows memory; memoryless policies ignore it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from polytheory._show import compact
from polytheory._typing import Array, Float, Int
from polytheory.errors import PolicyError
from polytheory.models._check import check_distributions


@runtime_checkable
class Policy(Protocol):
    """``start`` gives the memory of n rows, ``probs`` the action distribution, ``update`` the memory after a step.

    ``h`` is the step within the episode, counted from 0; ``s``, ``a``, ``r``, ``s2`` have shape [n].
    """

    def start(self, n: int) -> Any: ...
    def probs(self, m: Any, h: int, s: Int[Array, " n"]) -> Float[Array, "n A"]: ...
    def update(
        self, m: Any, h: int, s: Int[Array, " n"], a: Int[Array, " n"], r: Float[Array, " n"], s2: Int[Array, " n"]
    ) -> Any: ...


class Memoryless:
    """Mixin for policies that look only at (h, s)."""

    def start(self, n: int) -> None:
        """No memory."""
        return None

    def update(self, m: Any, h: int, s: Any, a: Any, r: Any, s2: Any) -> None:
        """No memory."""
        return None


@dataclass(frozen=True, eq=False)
class TabularPolicy(Memoryless):
    """Action probabilities by table, ``[S, A]`` or stage-dependent ``[H, S, A]``.

    Raises `NotStochasticError` with the bad row named, `PolicyError` on a wrong rank.
    """

    table: Float[np.ndarray, "*H S A"]

    __repr__ = compact

    def __post_init__(self) -> None:
        table = np.array(self.table, dtype=float)
        if table.ndim not in (2, 3) or table.shape[-1] == 0:
            raise PolicyError(f"a policy table must be [S, A] or [H, S, A] with A >= 1; got {list(table.shape)}")
        check_distributions(table, "policy")
        table.flags.writeable = False
        object.__setattr__(self, "table", table)

    @classmethod
    def deterministic(cls, actions: Int[np.ndarray, "*H S"], n_actions: int) -> TabularPolicy:
        """The policy that takes ``actions[s]`` (or ``actions[h, s]``) with probability 1."""
        actions = np.asarray(actions)
        if actions.size and (actions.min() < 0 or actions.max() >= n_actions):
            raise PolicyError(f"actions must lie in [0, {n_actions}); got {actions.min()} to {actions.max()}")
        return cls(np.eye(n_actions)[actions])

    @classmethod
    def uniform(cls, n_states: int, n_actions: int) -> TabularPolicy:
        """Every action equally likely in every state."""
        return cls(np.full((n_states, n_actions), 1.0 / n_actions))

    @property
    def is_staged(self) -> bool:
        """True when the probabilities depend on the stage."""
        return self.table.ndim == 3

    def at(self, h: int) -> Float[np.ndarray, "S A"]:
        """Action probabilities of stage ``h`` for all states."""
        return self.table[h] if self.is_staged else self.table

    def probs(self, m: Any, h: int, s: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n A"]:
        """Action probabilities in the states ``s``."""
        return self.at(h)[s]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Draw one policy per episode with the given weights, then follow it.

    The memory is the likelihood of the actions so far under each component; the action law is the posterior mixture,
    which has the same law of trajectories as drawing the component first [kuhn1953, realisation equivalence].
    """

    components: tuple[TabularPolicy, ...]
    weights: Float[np.ndarray, " K"]

    def __post_init__(self) -> None:
        weights = np.array(self.weights, dtype=float)
        if not self.components or weights.shape != (len(self.components),):
            raise PolicyError(f"{len(self.components)} policies need as many weights; got shape {list(weights.shape)}")
        check_distributions(weights, "weights")
        object.__setattr__(self, "weights", weights)

    def start(self, n: int) -> Float[np.ndarray, "n K"]:
        """Prior weights of the components."""
        return np.tile(self.weights, (n, 1))

    def probs(self, m: Float[np.ndarray, "n K"], h: int, s: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n A"]:
        """Posterior mixture of the components' action probabilities."""
        each = np.stack([c.probs(None, h, s) for c in self.components], axis=1)
        return np.einsum("nk,nka->na", m, each) / m.sum(axis=1, keepdims=True)

    def update(self, m, h, s, a, r, s2) -> Float[np.ndarray, "n K"]:
        """Bayes' rule on the action taken."""
        rows = np.arange(len(a))
        likelihood = np.stack([c.probs(None, h, s)[rows, a] for c in self.components], axis=1)
        joint = m * likelihood
        return joint / joint.sum(axis=1, keepdims=True)
