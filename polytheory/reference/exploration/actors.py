"""Actors of episodic methods: tables of log-weights, mirror ascent with resets, and the policies they play.

Log-weights and critics have shape [H, S, A]. Weights are never multiplied: probabilities are made where they are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.policies import Memoryless

Table = Float[np.ndarray, "H S A"]

TIE = 1e-9  # as in `critics`: rounding must not decide between equal actions, or the rooms part ways


def softmax(x: Float[np.ndarray, "*B A"]) -> Float[np.ndarray, "*B A"]:
    """``exp(x) / sum exp(x)`` over the last axis."""
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def greedy(x: Float[np.ndarray, "*B A"]) -> Float[np.ndarray, "*B A"]:
    """All probability on the first of the largest entries; entries that differ by rounding count as equal."""
    return np.eye(x.shape[-1])[(x >= x.max(-1, keepdims=True) - TIE).argmax(-1)]


def mirror_step(log_weights: Any, f: Any, eta: Any) -> Any:
    """``log pi + eta f`` up to normalisation: one step of mirror ascent with the entropy as mirror map."""
    return log_weights + eta * f


def actor_update(log_weights: Table, f: Table, due: Any, eta: float, reset: bool = True) -> Table:
    """Back to uniform when a switch is due (and ``reset``), then one mirror step on the critic of now."""
    return mirror_step(np.where(np.asarray(due) & reset, 0.0, log_weights), f, eta)


@dataclass(frozen=True, eq=False)
class StagedPolicy(Memoryless):
    """Softmax of log-weights, or the greedy action of a critic, mixed with the uniform policy.

    Fields: ``scores`` [H, S, A]; ``soft`` softmax or greedy; ``epsilon`` share of the uniform policy, in [0, 1].
    """

    scores: Table
    soft: bool = True
    epsilon: float = 0.0

    def law(self, scores: Float[np.ndarray, "*B A"]) -> Float[np.ndarray, "*B A"]:
        """Action probabilities of rows of scores."""
        probs = (softmax if self.soft else greedy)(scores)
        return probs if self.epsilon == 0 else (1 - self.epsilon) * probs + self.epsilon / probs.shape[-1]

    def probs(self, m: Any, h: int, s: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n A"]:
        """Action probabilities in the states ``s`` at stage ``h``."""
        return self.law(self.scores[h][s])

    def table(self) -> Table:
        """All action probabilities."""
        return self.law(self.scores)
