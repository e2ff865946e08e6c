"""What all learners of this folder share: settings, state, and the loop play - record - switch - update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests, Spec
from polytheory.algorithm import Info
from polytheory.exploration.episodic import EpisodicSettings, check_spec
from polytheory.reference.exploration.actors import StagedPolicy
from polytheory.reference.exploration.critics import Seen, add_episodes, information, nothing_seen, switch_due
from polytheory.streams import row_ids

PURPOSE = "exploration/episode"  # one stream for all methods here: they differ by what they do, not by luck


@dataclass(eq=False)
class EpisodicState:
    """State of every learner here.

    Fields:
        n, N, R: the data as sums (see `critics.Seen`), offline data included.
        f: [H, S, A] the critic of now.
        log_weights: [H, S, A] the actor's scores.
        seen_information: [H] log-determinants (`critics.information`) at the last switch.
        since_reset: actor updates since the last reset (since the start, without resets).
        switches: times the critic was refitted after the start.
        t: episodes played.
        seed, replica: name the random numbers.
    """

    n: Int[np.ndarray, "H S A"]
    N: Int[np.ndarray, "H S A S"]
    R: Float[np.ndarray, "H S A"]
    f: Float[np.ndarray, "H S A"]
    log_weights: Float[np.ndarray, "H S A"]
    seen_information: Float[np.ndarray, " H"]
    since_reset: int  # in the scaled room int64 [n], as are `switches` and `replica`
    switches: int
    t: int
    seed: int
    replica: int

    @property
    def seen(self) -> Seen:
        """The data as sums."""
        return Seen(self.n, self.N, self.R)


class EpisodicLearner(EpisodicSettings, ABC):
    """The loop; subclasses say how the critic is made and what is played. Fields as in `EpisodicSettings`."""

    def init(self, access: Any, seed: int, replica: int = 0) -> EpisodicState:
        """The critic of the offline data (or of none), and the actor's first scores."""
        H, S, A = check_spec(access.spec, self.phi)
        seen = nothing_seen(H, S, A)
        if self.offline is not None:
            seen = add_episodes(seen, self.offline)
        zero = np.zeros((H, S, A))
        start = EpisodicState(*seen, zero, zero, self.gauge(seen), 0, 0, 0, seed, replica)
        start.f = self.critic(start, access.spec)
        return start

    def step(self, state: EpisodicState, access: Any) -> tuple[EpisodicState, Info]:
        """Play an episode, record it, refit the critic where that is due, update the actor."""
        key = Key(state.seed, PURPOSE, state.t)
        requests = Requests(row_ids(state.replica, 0), access.spec.horizon)
        traj = access.rollouts(self.policy(state), requests, key)
        seen = add_episodes(state.seen, traj)
        now = self.gauge(seen)
        due = bool(self.due(now, state.seen_information))
        new = EpisodicState(
            *seen, state.f, state.log_weights, now if due else state.seen_information,
            (0 if due and self.resets else state.since_reset) + 1, state.switches + due, state.t + 1, state.seed,
            state.replica,
        )  # fmt: skip
        if due:
            new.f = self.critic(new, access.spec)
        new.log_weights = self.act(new, access.spec, due)
        expected = float(new.f[0, traj.states[0, 0]].max())
        return new, {
            "return": float(traj.rewards.sum()), "switched": float(due), "switches": float(new.switches),
            "since_reset": float(new.since_reset), "optimistic_value": expected,
        }  # fmt: skip

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """The policy that is played next."""
        return StagedPolicy(state.log_weights)

    # ---- what subclasses say ---------------------------------------------------------------------------------------

    @abstractmethod
    def critic(self, state: EpisodicState, spec: Spec) -> Float[np.ndarray, "H S A"]:
        """The critic of all data."""

    def gauge(self, seen: Seen) -> Float[np.ndarray, " H"]:
        """What the switch test looks at."""
        return information(seen.n, self.phi, self.lam)

    def due(self, now: Any, before: Any) -> Any:
        """Whether the critic is refitted."""
        return switch_due(now, before)

    def act(self, state: EpisodicState, spec: Spec, due: bool) -> Float[np.ndarray, "H S A"]:
        """The actor's scores after the episode; greedy learners keep zeros."""
        return state.log_weights


def staged_rewards(spec: Spec) -> Float[np.ndarray, "H S A"] | None:
    """The rewards where they are public, for every stage."""
    return None if spec.r is None else np.broadcast_to(spec.r, check_spec(spec, None))
