"""Finite classes of deterministic policies of a layered model, as data.

An agnostic learner gets nothing but such a class and has to find its best member; what it costs depends on the class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from polytheory._show import compact
from polytheory._typing import Array, Bool, Float, Int
from polytheory.errors import PolicyError, SettingError, UnknownNameError
from polytheory.policies import TabularPolicy

MOST = 200_000  # members that a maker will enumerate


@dataclass(frozen=True, eq=False)
class PolicyClass:
    """N policies; ``actions[k, h, i]`` is what policy k does in state i of layer h.

    Fields: ``actions`` [N, H, n] integers in [0, A); ``A``; ``name``. Equal members are allowed and count twice.
    Raises `PolicyError` for an empty class, ragged layers or actions out of range.
    """

    actions: Array
    A: int
    name: str = "class"

    __repr__ = compact

    def __post_init__(self) -> None:
        actions = np.array(self.actions)
        if actions.ndim != 3 or not actions.size or actions.dtype.kind not in "iu":
            raise PolicyError(
                f"a policy class is integers [N, H, n] with N >= 1; got {actions.dtype} {list(actions.shape)}"
            )
        if actions.min() < 0 or actions.max() >= self.A:
            raise PolicyError(f"actions must lie in [0, {self.A}); got {actions.min()} to {actions.max()}")
        actions = actions.astype(np.int64)
        actions.flags.writeable = False
        object.__setattr__(self, "actions", actions)

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def H(self) -> int:
        """Number of layers."""
        return self.actions.shape[1]

    @property
    def n(self) -> int:
        """States in each layer."""
        return self.actions.shape[2]

    @property
    def by_state(self) -> Int[np.ndarray, "N S"]:
        """Actions by state number, S = H * n + 1; 0 in the last state, where every episode ends."""
        return np.concatenate([self.actions.reshape(len(self), -1), np.zeros((len(self), 1), dtype=np.int64)], axis=1)

    def policy(self, k: int) -> TabularPolicy:
        """Member k as a policy of the layered model."""
        return TabularPolicy.deterministic(self.by_state[k], self.A)

    def fits(self, layers: Any) -> PolicyClass:
        """Itself. Raises `PolicyError` unless it has the sizes ``(H, n, A)`` of the model."""
        if (self.H, self.n, self.A) != tuple(layers):
            raise PolicyError(
                f"the class {self.name} has H, n, A = {(self.H, self.n, self.A)} but the model has {tuple(layers)}"
            )
        return self


@dataclass(frozen=True, eq=False)
class Sunflower:
    """What POPLER knows about a class [jia2023, Definition of (K, D)-sunflowers].

    Fields: ``core`` [K, H, n] actions of the core policies, which need not belong to the class; ``petals`` [N, H, n] the
    states of each member where it may leave the core.
    """

    core: Int[np.ndarray, "K H n"]
    petals: Bool[np.ndarray, "N H n"]

    def __post_init__(self) -> None:
        if self.core.ndim != 3 or not len(self.core) or self.core.shape[1:] != self.petals.shape[1:]:
            raise PolicyError(
                f"a sunflower needs a core [K, H, n], K >= 1, and petals [N, H, n]; got {list(self.core.shape)}, "
                f"{list(self.petals.shape)}"
            )

    @property
    def K(self) -> int:
        """Size of the core."""
        return len(self.core)

    @property
    def D(self) -> int:
        """Largest number of petal states of a member."""
        return int(self.petals.sum(axis=(1, 2)).max())


def everything(H: int, n: int, A: int) -> PolicyClass:
    """All ``A^(H n)`` deterministic policies."""
    _bounded("everything", A ** (H * n))
    return PolicyClass(np.array(list(product(range(A), repeat=H * n))).reshape(-1, H, n), A, "everything")


def tons(H: int, n: int, A: int, *, most: int = 1, exactly: bool = False) -> PolicyClass:
    """Action 1 in at most (or exactly) ``most`` states, 0 elsewhere; singletons at most = 1 [jia2023, l-tons]."""
    cells = H * n
    sizes = [most] if exactly else range(min(most, cells) + 1)
    if A < 2 or most < 0 or (exactly and most > cells):
        raise SettingError(
            f"tons(most = {most}) of {cells} states and {A} actions; A >= 2 and 0 <= most <= H n are needed"
        )
    rows = [np.isin(np.arange(cells), active) for size in sizes for active in combinations(range(cells), size)]
    return PolicyClass(np.array(rows).astype(np.int64).reshape(-1, H, n), A, f"{most}-ton")


def open_loop(H: int, n: int, A: int) -> PolicyClass:
    """All ``A^H`` sequences of actions, whatever the states: the leaves of the full tree, the largest spanning capacity."""
    _bounded("open-loop", A**H)
    rows = np.array(list(product(range(A), repeat=H)))
    return PolicyClass(np.repeat(rows[:, :, None], n, axis=2), A, "open-loop")


def constant(H: int, n: int, A: int) -> PolicyClass:
    """A policies, each always playing one action."""
    return PolicyClass(np.broadcast_to(np.arange(A)[:, None, None], (A, H, n)), A, "constant")


def linear_thresholds(
    H: int, n: int, A: int, *, features: Float[np.ndarray, "n d"] | None = None, directions: int = 16
) -> PolicyClass:
    """Action 1 where ``w . x_i >= b``: every dichotomy that thresholds make along the given directions, in all layers alike.

    Args:
        features: [n, d]; default: points on a line, where n + 1 dichotomies go each way.
        directions: number of directions w for d = 2 (equally spaced), or of seeded random ones for d > 2.
    """
    if A != 2:
        raise SettingError(f"linear thresholds choose between 2 actions; the model has {A}")
    x = np.arange(n, dtype=float)[:, None] if features is None else np.asarray(features, dtype=float)
    if x.ndim != 2 or len(x) != n:
        raise SettingError(f"features must be [{n}, d]; got {list(x.shape)}")
    d = x.shape[1]
    if d == 1:
        w = np.array([[1.0], [-1.0]])
    elif d == 2:
        angle = 2 * np.pi * np.arange(directions) / directions
        w = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        w = np.random.default_rng(0).standard_normal((directions, d))
    score = x @ w.T  # [n, directions]
    cuts = np.concatenate([score, np.full((1, score.shape[1]), np.inf)])
    rows = np.unique((score.T[:, None, :] >= cuts.T[:, :, None]).reshape(-1, n).astype(np.int64), axis=0)
    return PolicyClass(np.repeat(rows[:, None, :], H, axis=1), A, "linear-threshold")


def random_policies(H: int, n: int, A: int, *, size: int = 64, seed: int = 0) -> PolicyClass:
    """``size`` policies with uniform actions, drawn once from a seed."""
    _bounded("random", size)
    rows = np.random.default_rng(seed).integers(A, size=(max(size, 0), H, n))
    return PolicyClass(rows, A, f"random-{size}")


def ton_sunflower(policies: PolicyClass) -> Sunflower:
    """A sunflower of any class: core {all 0} and {a on one layer, 0 elsewhere}, petals the states without action 0.

    K = H (A - 1) + 1, and D is the largest number of such states: l for l-tons. With {all 0} alone as core no petal set
    would do.
    """
    H, n, A = policies.H, policies.n, policies.A
    core = np.zeros((H * (A - 1) + 1, H, n), dtype=np.int64)
    k = np.arange(H * (A - 1))
    core[1 + k, k // (A - 1)] = (1 + k % (A - 1))[:, None]
    return Sunflower(core, policies.actions != 0)


_MAKERS: dict[str, Callable[..., PolicyClass]] = {
    "everything": everything,
    "one-ton": tons,
    "two-ton": lambda H, n, A, *, exactly=False: tons(H, n, A, most=2, exactly=exactly),
    "open-loop": open_loop,
    "constant": constant,
    "linear-threshold": linear_thresholds,
    "random": random_policies,
}


def class_names() -> tuple[str, ...]:
    """Names that `make_class` knows."""
    return tuple(_MAKERS)


def make_class(name: str, layers: Any, **options: Any) -> PolicyClass:
    """A named class for a model of sizes ``(H, n, A)``. Raises `UnknownNameError`, `SettingError` on a wrong option."""
    if name not in _MAKERS:
        raise UnknownNameError("policy class", name, _MAKERS)
    maker = _MAKERS[name]
    allowed = list(inspect.signature(maker).parameters)[3:]
    for key in options:
        if key not in allowed:
            raise SettingError(
                f"policy class {name!r} takes no option {key!r}; allowed: {', '.join(allowed) or 'none'}"
            )
    return maker(*layers, **options)


def _bounded(name: str, size: int) -> None:
    if not 1 <= size <= MOST:
        raise SettingError(f"the class {name} would have {size} members; between 1 and {MOST} can be listed")
