"""Settings of the episodic learners, their ranges, and the radii and rates that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float
from polytheory.access import Grant, Spec
from polytheory.errors import SettingError, UnknownNameError
from polytheory.exploration import constants
from polytheory.trajectories import Trajectories

TARGETS = ("q_star", "q_pi")
SWITCHING = ("determinant", "always")
BONUSES = ("hoeffding", "bernstein")


@dataclass(frozen=True, eq=False)
class EpisodicSettings:
    """Settings that all learners share.

    Setting: horizon H, gamma = 1, rewards >= 0; one episode a step.

    Fields:
        episodes: T, the number of episodes that the theorem's constants are made for, >= 1; running longer is allowed.
        phi: features [S, A, d] with norms at most 1, or None for a table; NumPy, or torch in the scaled room.
        offline: episodes to start from, or None; shared by all replicas.
        constants: "theorem" takes the constants that the guarantee needs, "practice" the far smaller usual ones.
        bonus_scale: multiplies the bonus, >= 0; 0 is no optimism.
        value_bound: a known bound on the optimal return, or None for the largest reward times the horizon.
        lam: ridge weight, > 0; the theorems take 1.
        delta: failure probability of the guarantee, in (0, 1).

    Raises `SettingError` and `UnknownNameError` for values outside of these.
    """

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
        _check(self)

    def done(self, state: Any) -> bool:
        """A learner is never done by itself."""
        return False

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


@dataclass(frozen=True, eq=False)
class NoraSettings(EpisodicSettings):
    """NORA's settings: those of `EpisodicSettings`, and one for each ingredient.

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
        if self.eta is not None and not (self.eta >= 0 and np.isfinite(self.eta)):
            raise SettingError(f"eta = {self.eta}; a learning rate is >= 0 and finite, or None for the theorem's")
        if self.target not in TARGETS:
            raise UnknownNameError("target", self.target, TARGETS)
        if self.switching not in SWITCHING:
            raise UnknownNameError("switching", self.switching, SWITCHING)

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
class UcbviSettings(EpisodicSettings):
    """UCBVI's settings: those of `EpisodicSettings` without ``phi``, and ``bonus``: "hoeffding" or "bernstein"."""

    bonus: str = "hoeffding"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bonus not in BONUSES:
            raise UnknownNameError("bonus", self.bonus, BONUSES)
        if self.phi is not None:
            raise SettingError("Ucbvi has no features; leave phi=None, or use LsviUcb")

    def factors(self, spec: Spec) -> tuple[float, float]:
        """Factor of the bonus and its L."""
        if self.constants == "practice":
            return 0.2 * self.bonus_scale, 1.0
        H, S, A = check_spec(spec, None)
        L = math.log(5 * S * H * A * self.episodes * H / self.delta)
        return (7 * math.sqrt(L) if self.bonus == "hoeffding" else 1.0) * self.bonus_scale, L


@dataclass(frozen=True, eq=False)
class EpsilonGreedySettings(EpisodicSettings):
    """Those of `EpisodicSettings`, without a bonus; ``eta`` learning rate, >= 0; ``epsilon`` in [0, 1]."""

    bonus_scale: float = 0.0
    eta: float = 1.0
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon <= 1:
            raise SettingError(f"epsilon = {self.epsilon}; a share lies in [0, 1]")
        if not (self.eta >= 0 and np.isfinite(self.eta)):
            raise SettingError(f"eta = {self.eta}; a learning rate is >= 0 and finite")


def require_offline(x: EpisodicSettings) -> None:
    """Raise `SettingError` where offline data are missing."""
    if x.offline is None:
        raise SettingError(
            f"{type(x).__name__} starts from offline data; pass offline=Trajectories (--set offline=half-optimal:100, or a "
            "file), or use Nora without"
        )


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


def _check(x: EpisodicSettings) -> None:
    """Ranges of the fields of `EpisodicSettings`."""
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
