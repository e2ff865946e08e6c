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
from polytheory.errors import SettingError, UnknownNameError
from polytheory.reference.exploration import constants
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
    check_spec,
    staged_rewards,
    value_caps,
)

TARGETS = ("q_star", "q_pi")
SWITCHING = ("determinant", "always")


@dataclass(frozen=True, eq=False)
class Nora(EpisodicLearner):
    """NORA: no-regret optimistic rare-switching actor-critic. Fields as in `EpisodicLearner`, and one for each ingredient:

    Fields:
        eta: learning rate of the actor, >= 0; None takes `constants.learning_rate` (times 3 in practice).
        reset: whether the actor starts afresh at every switch. A safeguard against critics that change their mind; on an
            easy problem it only costs.
        switching: "determinant" (rare) or "always" (after every episode).
        target: "q_star", or "q_pi" for the value of the current actor.
    """

    eta: float | None = None
    reset: bool = True
    switching: str = "determinant"
    target: str = "q_star"

    @property
    def resets(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether `since_reset` starts again at a switch."""
        return self.reset

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ingredients(self)

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

    def rate(self, spec: Spec) -> float:
        """The learning rate of the actor."""
        if self.eta is not None:
            return self.eta
        H, S, A = check_spec(spec, None)
        B = float(value_caps(spec, self.value_bound)[0])
        if self.reset:
            rate = constants.learning_rate(self.dimension or S * A, H, A, self.episodes, B)
        else:
            rate = constants.unbroken_rate(A, self.episodes, B)
        return rate * (constants.PRACTICAL_RATE if self.constants == "practice" else 1.0)


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


def check_ingredients(x: Any) -> None:
    """Ranges of the fields that `Nora` adds, the same in both rooms."""
    if x.eta is not None and not (x.eta >= 0 and np.isfinite(x.eta)):
        raise SettingError(f"eta = {x.eta}; a learning rate is >= 0 and finite, or None for the theorem's")
    if x.target not in TARGETS:
        raise UnknownNameError("target", x.target, TARGETS)
    if x.switching not in SWITCHING:
        raise UnknownNameError("switching", x.switching, SWITCHING)


def require_offline(x: Any) -> None:
    """Raise `SettingError` where offline data are missing."""
    if x.offline is None:
        raise SettingError(
            f"{type(x).__name__} starts from offline data; pass offline=Trajectories, or use Nora without"
        )
