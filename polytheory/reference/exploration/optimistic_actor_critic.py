"""Optimistic actor-critic with a rarely switching critic and policy resets [tan2025].

Setting: finite horizon H, tables or linear MDPs, T episodes from the start distribution, rewards >= 0.

Update (NORA; after each episode the data of all episodes so far, offline ones included, make ``Lambda_h``)::

    if det Lambda_h has doubled at some stage h since the last switch:
        for h = H .. 1:  f_h = clip(r_h + phi . w_h + radius |phi|_{Lambda_h^-1}, 0, H - h + 1),
                         w_h the ridge regression of max_a f_{h+1}(s', a)
        log-weights = 0                                                             (the reset)
    log-weights_h += eta f_h,      pi_h = softmax(log-weights_h)

The critic aims at Q*, so that all data stay valid whatever the actor does. DOUHUA is the simpler sibling: its critic aims at
Q^pi of the current actor, is refitted after every episode, and nothing is ever reset.

Guarantee: with the theorem's radius, ``f >= Q*`` at all times with probability 1 - delta; at most
``H d log2(1 + T / d)`` switches, always; regret of NORA ``O(sqrt(d H^5 T log T log|A|) + sqrt(beta d H^4 T))`` [tan2025].
Offline data only add to ``Lambda_h``: fewer switches, narrower bonuses. Without optimism (`Noah`) offline data that cover
an optimal policy are needed.

References: [tan2025] Tan, Fan and Wei, Actor-Critics Can Achieve Optimal Sample Efficiency, ICML 2025. [jin2020] Jin, Yang,
Wang and Jordan, Provably Efficient Reinforcement Learning with Linear Function Approximation, COLT 2020. [weissman2003]
Weissman, Ordentlich, Seroussi, Verdu and Weinberger, Inequalities for the L1 deviation of the empirical distribution, 2003.
[abbasi2011] Abbasi-Yadkori, Pal and Szepesvari, Improved algorithms for linear stochastic bandits, NeurIPS 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import Spec
from polytheory.exploration.episodic import NoraSettings, require_offline, value_caps
from polytheory.reference.exploration.actors import StagedPolicy as StagedPolicy
from polytheory.reference.exploration.actors import actor_update as actor_update
from polytheory.reference.exploration.actors import greedy as greedy
from polytheory.reference.exploration.actors import mirror_step as mirror_step
from polytheory.reference.exploration.actors import softmax as softmax
from polytheory.reference.exploration.baselines import EpsilonGreedyActorCritic as EpsilonGreedyActorCritic
from polytheory.reference.exploration.baselines import LsviUcb as LsviUcb
from polytheory.reference.exploration.baselines import Ucbvi as Ucbvi
from polytheory.reference.exploration.critics import Seen as Seen
from polytheory.reference.exploration.critics import add_episodes as add_episodes
from polytheory.reference.exploration.critics import bonus as bonus
from polytheory.reference.exploration.critics import information as information
from polytheory.reference.exploration.critics import optimistic_critic as optimistic_critic
from polytheory.reference.exploration.critics import switch_due as switch_due
from polytheory.reference.exploration.critics import widths as widths
from polytheory.reference.exploration.episodic import (
    EpisodicLearner,
    EpisodicState,
    staged_rewards,
)


class Nora(NoraSettings, EpisodicLearner):
    """NORA: no-regret optimistic rare-switching actor-critic. Fields as in `NoraSettings`: one for each ingredient."""

    def critic(self, state: EpisodicState, spec: Spec) -> Float[np.ndarray, "H S A"]:
        """The optimistic critic of all data."""
        pi = softmax(state.log_weights) if self.target == "q_pi" else None
        caps = value_caps(spec, self.value_bound)
        return optimistic_critic(state.seen, self.phi, staged_rewards(spec), self.radii(spec), caps, self.lam, pi)

    def due(self, now: Any, before: Any) -> Any:
        """The determinant test, or always."""
        return np.asarray(True) if self.switching == "always" else switch_due(now, before)

    def act(self, state: EpisodicState, spec: Spec, due: bool) -> Float[np.ndarray, "H S A"]:
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
