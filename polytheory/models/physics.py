"""Cart-pole and pendulum with uncertain masses, lengths and gravity: many worlds stepped at once, in NumPy or torch.

The equations, the bounds of an episode and the rewards are those of Gymnasium's ``CartPole-v1`` and ``Pendulum-v1``
[towers2024], which hold one world each with fixed constants; here every row has parameters of its own. One text serves
both array libraries.

References: [barto1983] Barto, Sutton and Anderson, Neuronlike adaptive elements that can solve difficult learning control
problems. [towers2024] Gymnasium, arXiv:2407.17032.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Array, Bool, Float, Shaped
from polytheory.errors import SettingError, UnknownNameError


@dataclass(frozen=True)
class Physics:
    """A system whose constants are known only up to a box.

    Fields:
        uncertain: names of the uncertain constants; their order is that of the columns of ``parameters`` [n, k].
        low, high: ends of the box, each [k].

    Raises `UnknownNameError` for a constant that the system does not have, `SettingError` for a box that is empty, not
    finite, or reaches 0 (masses, lengths and gravity are positive).
    """

    uncertain: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    name: ClassVar[str]
    constants: ClassVar[Mapping[str, float]]  # by name, as in Gymnasium
    state_size: ClassVar[int]
    observation_size: ClassVar[int]
    actions: ClassVar[int | None]  # None: one number in [-1, 1]
    time_limit: ClassVar[int]  # steps of an episode at most
    reward_range: ClassVar[tuple[float, float]]

    def __post_init__(self) -> None:
        if not self.uncertain or not len(self.uncertain) == len(self.low) == len(self.high):
            raise SettingError(
                f"{self.name}: uncertain = {self.uncertain} needs as many ends low = {self.low}, high = {self.high}"
            )
        for name, low, high in zip(self.uncertain, self.low, self.high, strict=True):
            if name not in self.constants:
                raise UnknownNameError(f"constant of {self.name}", name, self.constants)
            if not (0 < low <= high and math.isfinite(high)):
                raise SettingError(f"{self.name}: {name} in [{low}, {high}]; a constant is positive, low <= high")
        if len(set(self.uncertain)) < len(self.uncertain):
            raise SettingError(f"{self.name}: uncertain = {self.uncertain} names a constant twice")

    @property
    def nominal(self) -> Float[np.ndarray, " k"]:
        """The uncertain constants as Gymnasium has them."""
        return np.array([self.constants[name] for name in self.uncertain])

    def constants_of(self, parameters: Float[Array, "n k"]) -> dict[str, Any]:
        """Every constant by name: a column [n] where it is uncertain, a number where not."""
        return {**self.constants, **{name: parameters[:, i] for i, name in enumerate(self.uncertain)}}

    def start(self, u: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Start states from uniforms in [0, 1)."""
        raise TypeError(f"{type(self).__name__} is a base")

    def observe(self, s: Float[Array, "n d"]) -> Float[Array, "n obs"]:
        """What is seen of a state."""
        return s

    def step(
        self, parameters: Float[Array, "n k"], s: Float[Array, "n d"], a: Shaped[Array, "n *action"]
    ) -> tuple[Float[Array, "n d"], Float[Array, " n"], Bool[Array, " n"]]:
        """Next states, rewards, and where the episode is over."""
        raise TypeError(f"{type(self).__name__} is a base")


@dataclass(frozen=True)
class CartPole(Physics):
    """Keep a pole upright by pushing its cart left (action 0) or right (1); +1 a step until it falls.

    State: position, speed, angle, angular speed. ``length`` is half the pole's. Euler steps of 0.02 s.
    """

    uncertain: tuple[str, ...] = ("length", "masscart")
    low: tuple[float, ...] = (0.1, 0.5)
    high: tuple[float, ...] = (2.0, 5.0)

    name: ClassVar[str] = "cartpole"
    constants: ClassVar[Mapping[str, float]] = {
        "gravity": 9.8, "masscart": 1.0, "masspole": 0.1, "length": 0.5, "force": 10.0,
    }  # fmt: skip
    state_size: ClassVar[int] = 4
    observation_size: ClassVar[int] = 4
    actions: ClassVar[int | None] = 2
    time_limit: ClassVar[int] = 500
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    tau: ClassVar[float] = 0.02
    furthest: ClassVar[float] = 2.4
    steepest: ClassVar[float] = 12 * 2 * math.pi / 360

    def start(self, u: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Uniform in [-0.05, 0.05]."""
        return 0.1 * u - 0.05

    def step(self, parameters, s, a) -> tuple[Any, Any, Any]:
        """See `Physics.step`; ``a`` int [n]."""
        xp, c = library(s), self.constants_of(parameters)
        x, speed, angle, spin = s[:, 0], s[:, 1], s[:, 2], s[:, 3]
        total, moment = c["masscart"] + c["masspole"], c["masspole"] * c["length"]
        cos, sin = xp.cos(angle), xp.sin(angle)
        pushed = (c["force"] * (2 * a - 1) + moment * spin**2 * sin) / total
        turned = (c["gravity"] * sin - cos * pushed) / (c["length"] * (4 / 3 - c["masspole"] * cos**2 / total))
        moved = pushed - moment * turned * cos / total
        after = xp.stack(
            [x + self.tau * speed, speed + self.tau * moved, angle + self.tau * spin, spin + self.tau * turned], -1
        )
        over = (abs(after[:, 0]) > self.furthest) | (abs(after[:, 2]) > self.steepest)
        return after, xp.ones_like(x), over


@dataclass(frozen=True)
class Pendulum(Physics):
    """Swing a pendulum up with a torque in [-2, 2] (action in [-1, 1]) and hold it; the cost is that of the angle, the
    speed and the torque. Never over before the time limit.

    State: angle (0 is up), angular speed; seen as cosine, sine, angular speed. Semi-implicit Euler steps of 0.05 s.
    """

    uncertain: tuple[str, ...] = ("mass", "length")
    low: tuple[float, ...] = (0.5, 0.5)
    high: tuple[float, ...] = (1.5, 1.5)

    name: ClassVar[str] = "pendulum"
    constants: ClassVar[Mapping[str, float]] = {"gravity": 10.0, "mass": 1.0, "length": 1.0}
    state_size: ClassVar[int] = 2
    observation_size: ClassVar[int] = 3
    actions: ClassVar[int | None] = None
    time_limit: ClassVar[int] = 200
    reward_range: ClassVar[tuple[float, float]] = (-(math.pi**2 + 0.1 * 8**2 + 0.001 * 2**2), 0.0)

    tau: ClassVar[float] = 0.05
    fastest: ClassVar[float] = 8.0
    strongest: ClassVar[float] = 2.0

    def start(self, u: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Angle uniform in [-pi, pi), speed in [-1, 1)."""
        return library(u).stack([math.pi * (2 * u[:, 0] - 1), 2 * u[:, 1] - 1], -1)

    def observe(self, s: Float[Array, "n d"]) -> Float[Array, "n obs"]:
        """Cosine and sine of the angle, angular speed."""
        xp = library(s)
        return xp.stack([xp.cos(s[:, 0]), xp.sin(s[:, 0]), s[:, 1]], -1)

    def step(self, parameters, s, a) -> tuple[Any, Any, Any]:
        """See `Physics.step`; ``a`` [n, 1] in [-1, 1], clipped."""
        xp, c = library(s), self.constants_of(parameters)
        angle, speed = s[:, 0], s[:, 1]
        torque = self.strongest * xp.clip(a[:, 0], -1.0, 1.0)
        wrapped = (angle + math.pi) % (2 * math.pi) - math.pi
        reward = -(wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2)
        drive = 1.5 * c["gravity"] / c["length"] * xp.sin(angle) + 3 / (c["mass"] * c["length"] ** 2) * torque
        speed = xp.clip(speed + drive * self.tau, -self.fastest, self.fastest)
        return xp.stack([angle + speed * self.tau, speed], -1), reward, xp.zeros_like(angle, dtype=xp.bool)


SYSTEMS: dict[str, type[Physics]] = {cls.name: cls for cls in (CartPole, Pendulum)}


def physics(name: str, **options: Any) -> Physics:
    """The named system; ``options`` name constants with their ends: ``physics("pendulum", mass=(0.5, 2.0))``. Without
    options it has its default box.

    Raises `UnknownNameError`, `SettingError` as in `Physics`, also for ends that are not two numbers.
    """
    if name not in SYSTEMS:
        raise UnknownNameError("physical system", name, SYSTEMS)
    if not options:
        return SYSTEMS[name]()  # type: ignore[call-arg]
    for key, ends in options.items():
        if key not in SYSTEMS[name].constants:
            raise UnknownNameError(f"constant of {name}", key, SYSTEMS[name].constants)
        numbers = isinstance(ends, Sequence) and not isinstance(ends, str) and len(ends) == 2
        if not numbers or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in ends):
            raise SettingError(f"{key} = {ends!r}; give the two ends of its interval, such as {key}=[0.5,2]")
    low, high = zip(*((float(a), float(b)) for a, b in options.values()), strict=True)
    return SYSTEMS[name](tuple(options), low, high)


def library(x: Array) -> Any:
    """The array library of ``x``: NumPy or torch."""
    return np if isinstance(x, np.ndarray) else sys.modules["torch"]
