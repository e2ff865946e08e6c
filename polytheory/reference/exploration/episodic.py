"""What all learners of this folder share: settings, state, and the loop play - record - switch - update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Grant, Key, Requests, Spec
from polytheory.algorithm import Info
from polytheory.errors import SettingError, UnknownNameError
from polytheory.reference.exploration import constants
from polytheory.reference.exploration.actors import StagedPolicy
from polytheory.reference.exploration.critics import Seen, add_episodes, information, nothing_seen, switch_due
from polytheory.streams import row_ids
from polytheory.trajectories import Trajectories

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


@dataclass(frozen=True, eq=False)
class EpisodicLearner:
    """Settings that all learners share; subclasses say how the critic is made and what is played.

    Setting: horizon H, gamma = 1, rewards >= 0; one episode a step.

    Fields:
        episodes: T, the number of episodes that the theorem's constants are made for, >= 1; running longer is allowed.
        phi: features [S, A, d] with norms at most 1, or None for a table.
        offline: episodes to start from, or None; shared by all replicas.
        constants: "theorem" takes the constants that the guarantee needs, "practice" the far smaller usual ones.
        bonus_scale: multiplies the bonus, >= 0; 0 is no optimism.
        value_bound: a known bound on the optimal return, or None for the largest reward times the horizon.
        lam: ridge weight, > 0; the theorems take 1.
        delta: failure probability of the guarantee, in (0, 1).

    Raises `SettingError` and `UnknownNameError` for values outside of these.
    """

    episodes: int = 1000
    phi: Float[np.ndarray, "S A d"] | None = None
    offline: Trajectories | None = None
    constants: str = "practice"
    bonus_scale: float = 1.0
    value_bound: float | None = None
    lam: float = 1.0
    delta: float = 0.05

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    resets: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_settings(self)

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

    def done(self, state: EpisodicState) -> bool:
        """A learner is never done by itself."""
        return False

    # ---- what subclasses say ---------------------------------------------------------------------------------------

    def critic(self, state: EpisodicState, spec: Spec) -> Float[np.ndarray, "H S A"]:
        """The critic of all data."""
        raise NotImplementedError

    def gauge(self, seen: Seen) -> Float[np.ndarray, " H"]:
        """What the switch test looks at."""
        return information(seen.n, self.phi, self.lam)

    def due(self, now: Any, before: Any) -> Any:
        """Whether the critic is refitted."""
        return switch_due(now, before)

    def act(self, state: EpisodicState, spec: Spec, due: bool) -> Float[np.ndarray, "H S A"]:
        """The actor's scores after the episode; greedy learners keep zeros."""
        return state.log_weights

    # ---- constants -------------------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int | None:
        """Number of features; None for a table, where it is S A."""
        return None if self.phi is None else int(np.asarray(self.phi).shape[-1])

    def radii(self, spec: Spec) -> Float[np.ndarray, " H"]:
        """The radius of every stage, times ``bonus_scale``."""
        caps = value_caps(spec, self.value_bound)
        (H, S, A), B, known = check_spec(spec, None), float(caps[0]), spec.r is not None
        if self.constants == "practice":
            radius = np.full(H, constants.PRACTICAL_RADIUS["tabular" if self.phi is None else "linear"] * B)
        elif self.dimension is None:
            after = np.append(caps[1:], 0.0) if known else caps
            radius = np.array([
                constants.tabular_radius(
                    S, A, H, self.episodes, b, delta=self.delta, lam=self.lam, known_rewards=known
                ) for b in after
            ])  # fmt: skip
        else:
            radius = np.full(
                H, constants.linear_radius(self.dimension, H, self.episodes, B, delta=self.delta, lam=self.lam)
            )
        return self.bonus_scale * radius


def value_caps(spec: Spec, value_bound: float | None) -> Float[np.ndarray, " H"]:
    """Bound on what is left to earn from each stage on: the largest reward times the stages left, and ``value_bound``."""
    left = spec.reward_range[1] * np.arange(check_spec(spec, None)[0], 0, -1, dtype=float)
    return left if value_bound is None else np.minimum(left, value_bound)


def staged_rewards(spec: Spec) -> Float[np.ndarray, "H S A"] | None:
    """The rewards where they are public, for every stage."""
    return None if spec.r is None else np.broadcast_to(spec.r, check_spec(spec, None))


def check_spec(spec: Spec, phi: Any) -> tuple[int, int, int]:
    """H, S, A of a world that these learners can live in; `SettingError` for any other."""
    if spec.horizon is None or spec.gamma != 1 or spec.S is None or spec.A is None:
        raise SettingError(
            f"{spec.name} has horizon {spec.horizon} and gamma {spec.gamma}; episodes of a finite horizon with gamma = 1 and "
            "countable states are needed: make the model with horizon=H, gamma=1"
        )
    if spec.reward_range[0] < 0:
        raise SettingError(
            f"{spec.name} pays rewards down to {spec.reward_range[0]:g}; they must be >= 0: add a constant to all of them"
        )
    if phi is not None and np.asarray(phi).shape[:2] != (spec.S, spec.A):
        raise SettingError(f"phi must be [S, A, d] with S, A = {spec.S}, {spec.A}; got {list(np.asarray(phi).shape)}")
    return spec.horizon, spec.S, spec.A


def check_settings(x: Any) -> None:
    """Ranges of the fields of `EpisodicLearner`, the same in both rooms."""
    if x.episodes < 1:
        raise SettingError(f"episodes = {x.episodes}; at least 1 is needed: it is the T of the theorem's constants")
    if x.constants not in constants.NAMES:
        raise UnknownNameError("constants", x.constants, constants.NAMES)
    if not (x.bonus_scale >= 0 and np.isfinite(x.bonus_scale)):
        raise SettingError(f"bonus_scale = {x.bonus_scale}; it must be >= 0 and finite (0 is no optimism)")
    if not (x.lam > 0 and np.isfinite(x.lam)):
        raise SettingError(f"lam = {x.lam}; a ridge weight is positive and finite, the theorems take 1")
    if not 0 < x.delta < 1:
        raise SettingError(f"delta = {x.delta}; a failure probability lies in (0, 1)")
    if x.value_bound is not None and not x.value_bound > 0:
        raise SettingError(f"value_bound = {x.value_bound}; it must be positive, or None")
    if x.phi is not None:
        phi = np.asarray(x.phi)
        if phi.ndim != 3:
            raise SettingError(f"phi must be [S, A, d]; got shape {list(phi.shape)}")
        largest = float(np.sqrt((phi**2).sum(-1)).max())
        if not largest <= 1 + 1e-9:
            raise SettingError(f"features must have norm at most 1; the largest has {largest:.6g}: divide phi by it")
