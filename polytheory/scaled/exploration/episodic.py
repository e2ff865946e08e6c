"""What all learners of this folder share, for n replicas in lock-step: settings, state, and the loop.

Random numbers, fields and updates are the reference's; every array has a leading replica axis. The tables of transitions are
updated in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Grant, Key, Requests, Spec
from polytheory.algorithm import Info
from polytheory.errors import SettingError, UnknownNameError
from polytheory.scaled.exploration import constants
from polytheory.scaled.exploration.actors import StagedPolicy
from polytheory.scaled.exploration.critics import Seen, add_episodes, information, nothing_seen, switch_due
from polytheory.streams import row_ids
from polytheory.trajectories import Trajectories

PURPOSE = "exploration/episode"  # one stream for all methods here: they differ by what they do, not by luck
Many = Float[torch.Tensor, "n H S A"]


@dataclass(eq=False)
class EpisodicState:
    """The reference's state with a leading replica axis on every array: ``n`` [n, H, S, A], ``N`` [n, H, S, A, S], ``R``,
    ``f`` and ``log_weights`` [n, H, S, A], ``seen_information`` [n, H], ``since_reset``, ``switches`` and ``replica`` int64
    [n]; ``t`` and ``seed`` are shared.
    """

    n: Int[torch.Tensor, "n H S A"]
    N: Int[torch.Tensor, "n H S A S"]
    R: Many
    f: Many
    log_weights: Many
    seen_information: Float[torch.Tensor, "n H"]
    since_reset: Int[torch.Tensor, " n"]
    switches: Int[torch.Tensor, " n"]
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]

    @property
    def seen(self) -> Seen:
        """The data as sums."""
        return Seen(self.n, self.N, self.R)


@dataclass(frozen=True, eq=False)
class EpisodicLearner:
    """Settings that all learners share; fields as in the reference. ``phi`` and ``offline`` may be NumPy or torch."""

    episodes: int = 1000
    phi: Any = None
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
        """The critic of the offline data (or of none), and the actors' first scores; replicas count from ``replica``."""
        H, S, A = check_spec(access.spec, self.phi)
        n, device = access.replicas, access.device
        seen = nothing_seen(n, H, S, A, device)
        if self.offline is not None:
            once = add_episodes(nothing_seen(1, H, S, A, device), self.offline)
            seen = Seen(*(x.expand(n, *x.shape[1:]).clone() for x in once))
        zero, count = torch.zeros_like(seen.R), torch.zeros(n, dtype=torch.int64, device=device)
        ids = replica + torch.arange(n, device=device)
        start = EpisodicState(*seen, zero, zero, self.gauge(seen), count, count, 0, seed, ids)
        start.f = self.critic(seen, zero, access.spec)
        return start

    def step(self, state: EpisodicState, access: Any) -> tuple[EpisodicState, Info]:
        """Play an episode of every replica, record it, refit the critics where that is due, update the actors."""
        n = access.replicas
        requests = Requests(row_ids(state.replica.numpy(force=True), 0), access.spec.horizon)
        traj = access.rollouts(self.policy(state), requests, Key(state.seed, PURPOSE, state.t))
        seen = add_episodes(state.seen, traj)
        now = self.gauge(seen)
        due = self.due(now, state.seen_information)
        f = state.f
        which = due.nonzero()[:, 0]
        if len(which) == n:
            f = self.critic(seen, state.log_weights, access.spec)
        elif len(which):
            f = f.index_copy(0, which, self.critic(seen.of(which), state.log_weights[which], access.spec))
        since = state.since_reset * ~(due & self.resets) + 1
        new = EpisodicState(
            *seen, f, state.log_weights, torch.where(due[:, None], now, state.seen_information), since,
            state.switches + due, state.t + 1, state.seed, state.replica,
        )  # fmt: skip
        new.log_weights = self.act(new, access.spec, due)
        expected = f[torch.arange(n, device=f.device), 0, traj.states[:, 0]].amax(-1)
        columns = {
            "return": traj.rewards.sum(-1), "switched": due, "switches": new.switches, "since_reset": since,
            "optimistic_value": expected,
        }  # fmt: skip
        return new, {name: x.numpy(force=True).astype(float) for name, x in columns.items()}

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """The policies that are played next."""
        return StagedPolicy(state.log_weights)

    def done(self, state: EpisodicState) -> bool:
        """A learner is never done by itself."""
        return False

    # ---- what subclasses say ---------------------------------------------------------------------------------------

    def critic(self, seen: Seen, log_weights: Many, spec: Spec) -> Many:
        """The critics of the given data, one per replica in it."""
        raise NotImplementedError

    def gauge(self, seen: Seen) -> Float[torch.Tensor, "n H"]:
        """What the switch test looks at."""
        return information(seen.n, self.features(seen.n.device), self.lam)

    def due(self, now: Any, before: Any) -> Any:
        """Where the critic is refitted: [n]."""
        return switch_due(now, before)

    def act(self, state: EpisodicState, spec: Spec, due: Any) -> Many:
        """The actors' scores after the episode; greedy learners keep zeros."""
        return state.log_weights

    # ---- constants -------------------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int | None:
        """Number of features; None for a table, where it is S A."""
        return None if self.phi is None else int(np.asarray(self.phi).shape[-1])

    def features(self, device: torch.device) -> Float[torch.Tensor, "S A d"] | None:
        """``phi`` as a tensor."""
        return None if self.phi is None else torch.tensor(np.array(self.phi, dtype=float), device=device)

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

    def facts(self, spec: Spec, device: torch.device) -> tuple[Any, Any, Any, Any]:
        """Features, rewards [H, S, A] where public, radii [H] and caps [H] as tensors."""

        def put(x: Any) -> torch.Tensor:
            return torch.tensor(np.array(x, dtype=float), device=device)

        r = None if spec.r is None else put(np.broadcast_to(spec.r, check_spec(spec, None)))
        return self.features(device), r, put(self.radii(spec)), put(value_caps(spec, self.value_bound))


def value_caps(spec: Spec, value_bound: float | None) -> Float[np.ndarray, " H"]:
    """Bound on what is left to earn from each stage on: the largest reward times the stages left, and ``value_bound``."""
    left = spec.reward_range[1] * np.arange(check_spec(spec, None)[0], 0, -1, dtype=float)
    return left if value_bound is None else np.minimum(left, value_bound)


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
