"""Actors in torch, for n replicas: log-weights and critics have shape [n, H, S, A]; see the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from polytheory._typing import Float, Int
from polytheory.policies import Memoryless

Table = Float[torch.Tensor, "n H S A"]

TIE = 1e-9  # as in `critics`: rounding must not decide between equal actions, or the rooms part ways


def softmax(x: Float[torch.Tensor, "*B A"]) -> Float[torch.Tensor, "*B A"]:
    """``exp(x) / sum exp(x)`` over the last axis."""
    weights = torch.exp(x - x.amax(-1, keepdim=True))
    return weights / weights.sum(-1, keepdim=True)


def greedy(x: Float[torch.Tensor, "*B A"]) -> Float[torch.Tensor, "*B A"]:
    """All probability on the first of the largest entries; entries that differ by rounding count as equal."""
    largest = x >= x.amax(-1, keepdim=True) - TIE
    return (largest & (largest.cumsum(-1) == 1)).to(x.dtype)


def mirror_step(log_weights: Any, f: Any, eta: Any) -> Any:
    """``log pi + eta f`` up to normalisation: one step of mirror ascent with the entropy as mirror map."""
    return log_weights + eta * f


def actor_update(log_weights: Table, f: Table, due: Any, eta: float, reset: bool = True) -> Table:
    """Back to uniform where a switch is due (and ``reset``), then one mirror step on the critic of now."""
    due = torch.as_tensor(due, device=f.device) & reset
    return mirror_step(torch.where(due.view(-1, 1, 1, 1), 0.0, log_weights), f, eta)


@dataclass(frozen=True, eq=False)
class StagedPolicy(Memoryless):
    """Softmax of log-weights, or the greedy action of a critic, mixed with the uniform policy; one table per replica.

    Fields: ``scores`` [n, H, S, A]; ``soft`` softmax or greedy; ``epsilon`` share of the uniform policy, in [0, 1].
    """

    scores: Table
    soft: bool = True
    epsilon: float = 0.0

    def law(self, scores: Float[torch.Tensor, "*B A"]) -> Float[torch.Tensor, "*B A"]:
        """Action probabilities of rows of scores."""
        probs = (softmax if self.soft else greedy)(scores)
        return probs if self.epsilon == 0 else (1 - self.epsilon) * probs + self.epsilon / probs.shape[-1]

    def probs(self, m: Any, h: int, s: Int[torch.Tensor, " rows"]) -> Float[torch.Tensor, "rows A"]:
        """Action probabilities in the states ``s`` at stage ``h``; rows are replica-major."""
        n = len(self.scores)
        replica = torch.arange(n, device=s.device).repeat_interleave(len(s) // n)
        return self.law(self.scores[replica, h, s])

    def table(self) -> Table:
        """All action probabilities."""
        return self.law(self.scores)
