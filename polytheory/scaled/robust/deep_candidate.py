"""The policy of the deep search: of the agents that may be trusted here, act on the least expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from polytheory._typing import Bool, Float
from polytheory.scaled.robust.deep_learners import Agent, nowhere_invalid


@dataclass(frozen=True, eq=False)
class Candidate:
    """``argmax_a min_j Q_j(s, a)``, or for numbers as actions that of ``argmin_j Q_j(s, pi_j(s))``, over the agents j
    whose one-step model foresaw the last observation [zouitine2024, section 5].

    Fields:
        learner: of the agents. agents: frozen ones, at least one.
        thresholds: largest L1 error of a prediction at which an agent is still trusted, each; infinite: always.
        default: who acts where no agent is trusted; ignored when that cannot happen.
    """

    learner: Any
    agents: tuple[Agent, ...]
    thresholds: tuple[float, ...]
    default: Agent

    def start(self, n: int) -> Bool[torch.Tensor, "J n"]:
        """Every agent is trusted at first."""
        return nowhere_invalid(len(self.agents), n)

    def act(self, m: Any, h: int, s: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Actions; the uniforms are not used."""
        with torch.no_grad():
            action, _ = self.learner.pessimist(self.agents, s, m)
            if bool(m.any(0).all()):
                return action
            fallback, _ = self.learner.pessimist((self.default,), s, nowhere_invalid(1, len(s)))
            trusted = m.any(0)
            return torch.where(trusted if action.ndim == 1 else trusted[:, None], action, fallback)

    def update(self, m: Any, h: int, s: Any, a: Any, r: Any, s2: torch.Tensor) -> Bool[torch.Tensor, "J n"]:
        """Whom the newest observation lets trust."""
        if all(rho == float("inf") for rho in self.thresholds):
            return m
        with torch.no_grad():
            each = [
                trusted(self.learner.expected(agent, s, a), s2.float(), rho)
                for agent, rho in zip(self.agents, self.thresholds, strict=True)
            ]
        return torch.stack(each)


def trusted(
    expected: Float[torch.Tensor, "n obs"], seen: Float[torch.Tensor, "n obs"], rho: float
) -> Bool[torch.Tensor, " n"]:
    """Where the L1 error of the prediction is at most ``rho``."""
    return (expected - seen).abs().sum(-1) <= rho
