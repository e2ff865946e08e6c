"""Optimistic actor-critic with a rarely switching critic and policy resets, for n replicas in lock-step.

Update and guarantee are those of the reference [tan2025]. Critics are refitted for the replicas that are due only.

References: [tan2025] Tan, Fan and Wei, Actor-Critics Can Achieve Optimal Sample Efficiency, ICML 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from polytheory.access import Spec
from polytheory.exploration.episodic import NoraSettings, require_offline
from polytheory.scaled.exploration.actors import StagedPolicy as StagedPolicy
from polytheory.scaled.exploration.actors import actor_update as actor_update
from polytheory.scaled.exploration.actors import greedy as greedy
from polytheory.scaled.exploration.actors import mirror_step as mirror_step
from polytheory.scaled.exploration.actors import softmax as softmax
from polytheory.scaled.exploration.baselines import EpsilonGreedyActorCritic as EpsilonGreedyActorCritic
from polytheory.scaled.exploration.baselines import LsviUcb as LsviUcb
from polytheory.scaled.exploration.baselines import Ucbvi as Ucbvi
from polytheory.scaled.exploration.critics import Seen as Seen
from polytheory.scaled.exploration.critics import add_episodes as add_episodes
from polytheory.scaled.exploration.critics import bonus as bonus
from polytheory.scaled.exploration.critics import information as information
from polytheory.scaled.exploration.critics import optimistic_critic as optimistic_critic
from polytheory.scaled.exploration.critics import switch_due as switch_due
from polytheory.scaled.exploration.critics import widths as widths
from polytheory.scaled.exploration.episodic import EpisodicLearner, EpisodicState, Many


class Nora(NoraSettings, EpisodicLearner):
    """NORA: no-regret optimistic rare-switching actor-critic. Fields as in `NoraSettings`: one for each ingredient."""

    def critic(self, seen: Seen, log_weights: Many, spec: Spec) -> Many:
        """The optimistic critics of all data."""
        pi = softmax(log_weights) if self.target == "q_pi" else None
        return optimistic_critic(seen, *self.facts(spec, log_weights.device), self.lam, pi)

    def due(self, now: Any, before: Any) -> Any:
        """The determinant test, or always."""
        if self.switching == "always":
            return torch.ones(len(now), dtype=torch.bool, device=now.device)
        return switch_due(now, before)

    def act(self, state: EpisodicState, spec: Spec, due: Any) -> Many:
        """Reset where due, then a mirror step."""
        return actor_update(state.log_weights, state.f, due, self.rate(spec), self.reset)


@dataclass(frozen=True, eq=False)
class Douhua(Nora):
    """DOUHUA: the critic evaluates the current actor after every episode, and nothing is reset. Fields as in `Nora`.

    Its bonus has to cover every policy that the actor can reach; the radius here covers any one table of next values at
    once, so for tables it does, while for features the theorem's radius does not.
    """

    reset: bool = False
    switching: str = "always"
    target: str = "q_pi"


@dataclass(frozen=True, eq=False)
class NoraHybrid(Nora):
    """NORA that starts from offline data: its critic and its determinants include them. ``offline`` is required."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_offline(self)


@dataclass(frozen=True, eq=False)
class Noah(NoraHybrid):
    """The non-optimistic actor-critic with offline data: no bonus, rare switching, resets. ``offline`` is required.

    Guarantee: when the data cover an optimal policy, ``N_off >= c* d H^4 / eps^2`` offline episodes make up for optimism,
    ``c* = max d^{pi*} / rho`` [tan2025]. The learner cannot see c*: `regret.comparator_ratio` does, given the model.
    """

    bonus_scale: float = 0.0
