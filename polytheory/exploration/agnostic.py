"""Settings of the agnostic learners and their ranges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from polytheory.access import Grant
from polytheory.errors import PolicyError, SettingError
from polytheory.policy_classes import PolicyClass, Sunflower, ton_sunflower


@dataclass(frozen=True, eq=False)
class SelectionSettings:
    """Settings of learners that estimate every member.

    Fields:
        policies: the class.
        batch: estimates of each member in a step (for each replica), >= 1.
        delta: probability that the radius does not hold, in (0, 1).

    Raises `SettingError` for values outside of these.
    """

    policies: PolicyClass
    batch: int = 16
    delta: float = 0.05

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 < self.delta < 1:
            raise SettingError(f"batch = {self.batch}, delta = {self.delta}; batch >= 1 and 0 < delta < 1 are needed")

    def done(self, state: Any) -> bool:
        """A learner is never done by itself."""
        return False


@dataclass(frozen=True, eq=False)
class PsdpSettings:
    """Fields: ``policies`` the class; ``batch`` episodes for each layer (and replica), >= 1."""

    policies: PolicyClass
    batch: int = 256

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE, Grant.MU_RESET})

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise SettingError(f"batch = {self.batch}; at least 1 episode is needed")


@dataclass(frozen=True, eq=False)
class CpiSettings(PsdpSettings):
    """Fields:
    policies: the class.
    batch: episodes in a step (for each replica), >= 1.
    alpha: None takes the theorem's step length; practice takes a constant, 0.1 say, in (0, 1].
    tol: stop (that replica) when the estimated gain is at most this, >= 0.
    advantage_bound: largest |A| that is allowed for, > 0; 1 when returns lie in [0, 1].
    """

    alpha: float | None = None
    tol: float = 0.0
    advantage_bound: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha is not None and not 0 < self.alpha <= 1:
            raise SettingError(f"alpha = {self.alpha}; a step length lies in (0, 1], None takes the theorem's")
        if self.tol < 0 or not self.advantage_bound > 0:
            raise SettingError(f"tol = {self.tol}, advantage_bound = {self.advantage_bound}; tol >= 0 and a bound > 0")


@dataclass(frozen=True, eq=False)
class PoplerSettings:
    """Fields:
    policies: the class.
    sunflower: its core and petals; None takes ``ton_sunflower``, which every class has.
    batch: episodes in a step (for each replica), >= 1.
    threshold: estimated probability from which a petal state is worth learning, in (0, 1].
    """

    policies: PolicyClass
    sunflower: Sunflower | None = None
    batch: int = 500
    threshold: float = 0.02

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 < self.threshold <= 1:
            raise SettingError(f"batch = {self.batch}, threshold = {self.threshold}; batch >= 1 and 0 < threshold <= 1")
        if self.petals.petals.shape != self.policies.actions.shape:
            raise PolicyError(
                f"the sunflower has petals {list(self.petals.petals.shape)}, the class is "
                f"{list(self.policies.actions.shape)}; make one for this class"
            )

    @cached_property
    def petals(self) -> Sunflower:
        """The sunflower in use."""
        return self.sunflower or ton_sunflower(self.policies)


@dataclass(frozen=True, eq=False)
class PlhrSettings:
    """Fields:
    policies: the class.
    draws: observations drawn from each reset law (and from the start law), >= 1.
    rollouts: repetitions in each entry of a fingerprint, >= 1.
    transitions: transitions of each (cluster, action), >= 1.
    tests: members whose values make the fingerprint, >= 1.
    tolerance: observations within this sup distance share a cluster; about 3 / sqrt(rollouts) for returns in [0, 1]. Too
        large merges latent states, which no number of samples mends; too small splits them, which only costs.
    most_clusters: in a layer; more raise `SettingError`.
    """

    policies: PolicyClass
    draws: int = 24
    rollouts: int = 400
    transitions: int = 200
    tests: int = 4
    tolerance: float = 0.15
    most_clusters: int = 8

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE, Grant.LOCAL_RESET, Grant.MU_RESET})

    def __post_init__(self) -> None:
        for field in ("draws", "rollouts", "transitions", "tests", "most_clusters"):
            if getattr(self, field) < 1:
                raise SettingError(f"{field} = {getattr(self, field)}; it must be at least 1")
        if not self.tolerance > 0:
            raise SettingError(f"tolerance = {self.tolerance}; a positive number is needed, try 3 / sqrt(rollouts)")
