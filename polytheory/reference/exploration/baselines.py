"""What optimistic actor-critics are compared to: optimistic value iteration, and an actor-critic without optimism.

References: [azar2017] Azar, Osband and Munos, Minimax Regret Bounds for Reinforcement Learning, ICML 2017. [jin2020] Jin,
Yang, Wang and Jordan, Provably Efficient Reinforcement Learning with Linear Function Approximation, COLT 2020. [maurer2009]
Maurer and Pontil, Empirical Bernstein Bounds and Sample-Variance Penalization, COLT 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import Spec
from polytheory.exploration.episodic import EpsilonGreedySettings, UcbviSettings, value_caps
from polytheory.reference.exploration.actors import StagedPolicy, mirror_step, softmax
from polytheory.reference.exploration.critics import optimistic_critic, switch_due
from polytheory.reference.exploration.episodic import (
    EpisodicLearner,
    EpisodicState,
    staged_rewards,
)


def hoeffding_bonus(n: Any, B: float, L: float) -> Float[np.ndarray, "S A"]:
    """``B sqrt(L / max(n, 1))``."""
    return B * np.sqrt(L / np.maximum(n, 1))


def bernstein_bonus(n: Any, variance: Any, B: float, L: float) -> Float[np.ndarray, "S A"]:
    """``sqrt(2 variance L / n) + 7 B L / (3 n)``, with n at least 1 [maurer2009, Theorem 4, n for n - 1]."""
    m = np.maximum(n, 1)
    return np.sqrt(2 * variance * L / m) + 7 * B * L / (3 * m)


def next_variance(n: Any, N: Any, v: Float[np.ndarray, " S"], mean: Any) -> Float[np.ndarray, "S A"]:
    """Empirical variance of the next value; a sample after which the episode ended counts as 0."""
    ended = (n - N.sum(-1)) * mean**2
    return ((N * (v - mean[..., None]) ** 2).sum(-1) + ended) / np.maximum(n, 1)


@dataclass(frozen=True, eq=False)
class LsviUcb(EpisodicLearner):
    """LSVI-UCB [jin2020]: greedy in the optimistic critic, which is refitted after every episode (or rarely).

    Fields as in `EpisodicLearner`, and ``rare``: refit only when a determinant has doubled.
    """

    rare: bool = False

    def critic(self, state: EpisodicState, spec: Spec) -> Float[np.ndarray, "H S A"]:
        """The critic of NORA."""
        r = staged_rewards(spec)
        return optimistic_critic(
            state.seen, self.phi, r, self.radii(spec), value_caps(spec, self.value_bound), self.lam
        )

    def due(self, now: Any, before: Any) -> Any:
        """Always, or when a determinant has doubled."""
        return switch_due(now, before) if self.rare else np.asarray(True)

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """Greedy in the critic; the first of the best actions."""
        return StagedPolicy(state.f, soft=False)


class Ucbvi(UcbviSettings, EpisodicLearner):
    """UCBVI [azar2017]: value iteration on the empirical model with bonuses; unseen pairs get the largest value.

    Counts are kept by stage, so that the S states of the paper are the S H pairs (state, stage) here. Theorem's constants:
    Hoeffding ``7 B L sqrt(1 / n)`` with ``L = log(5 S H A T / delta)``, the paper's. Bernstein: the empirical-variance
    term for the estimated next values with the same L; the paper's third term, a correction for the difference between
    estimated and optimal next values, is left out, so that this form is a practical one. In practice L = 1 and
    ``bonus_scale`` is 0.2 of that.

    Fields as in `EpisodicLearner` (without ``phi``), and ``bonus``: "hoeffding" or "bernstein".
    """

    def critic(self, state: EpisodicState, spec: Spec) -> Float[np.ndarray, "H S A"]:
        """Backward over the stages on the empirical model."""
        caps, f, v = value_caps(spec, self.value_bound), np.zeros(state.f.shape), np.zeros(state.f.shape[1])
        (scale, L), known = self.factors(spec), staged_rewards(spec)
        for h in reversed(range(len(f))):
            m = np.maximum(state.n[h], 1)
            mean = state.N[h] @ v / m
            r = state.R[h] / m if known is None else known[h]
            if self.bonus == "hoeffding":
                b = hoeffding_bonus(state.n[h], caps[h], L)
            else:
                b = bernstein_bonus(state.n[h], next_variance(state.n[h], state.N[h], v, mean), caps[h], L)
            f[h] = np.where(state.n[h] == 0, caps[h], np.minimum(r + mean + scale * b, caps[h]))
            v = f[h].max(-1)
        return f

    def due(self, now: Any, before: Any) -> Any:
        """After every episode."""
        return np.asarray(True)

    def gauge(self, seen: Any) -> Float[np.ndarray, " H"]:
        """Nothing is tested."""
        return np.zeros(len(seen.n))

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """Greedy in the critic; the first of the best actions."""
        return StagedPolicy(state.f, soft=False)


class EpsilonGreedyActorCritic(EpsilonGreedySettings, EpisodicLearner):
    """An actor-critic as it is usually written: critic of the current actor without bonus, mirror steps, no resets; a
    share ``epsilon`` of every action is uniform.

    Fields as in `EpisodicLearner`; ``eta`` learning rate; ``epsilon`` in [0, 1].
    """

    def critic(self, state: EpisodicState, spec: Spec) -> Float[np.ndarray, "H S A"]:
        """The value of the actor's own policy."""
        r = staged_rewards(spec)
        caps, pi = value_caps(spec, self.value_bound), softmax(state.log_weights)
        return optimistic_critic(state.seen, self.phi, r, self.radii(spec), caps, self.lam, pi)

    def due(self, now: Any, before: Any) -> Any:
        """After every episode."""
        return np.asarray(True)

    def act(self, state: EpisodicState, spec: Spec, due: bool) -> Float[np.ndarray, "H S A"]:
        """A mirror step."""
        return mirror_step(state.log_weights, state.f, self.eta)

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """The actor, mixed with the uniform policy."""
        return StagedPolicy(state.log_weights, epsilon=self.epsilon)
