"""Reward design as a bilevel problem: what both rooms share of its settings and its data.

The upper level chooses parameters nu of a reward; the lower level answers with the policy that is best for it, with an
entropy bonus of weight tau so that it is unique and smooth in nu. The true rewards are the model's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytheory._typing import Bool, Float, Int
from polytheory.errors import DiscountError, SettingError, ShapeError, UnknownNameError
from polytheory.models._check import check_finite
from polytheory.models.tabular import TabularMDP

FEATURES = ("one-hot", "state", "three-state")
UPPER = ("utility", "preference")
ROUTES = ("closed", "implicit", "fisher", "identity", "none")
LOWER = ("newton", "gradient")
TERMS = ("implicit", "fisher", "identity", "none")
MAX_PATHS = 2000  # pairs of paths are compared: this many squared
THREE_STATE_FEATURES = (((1.0, 0.0), (0.0, 1.0)), ((0.5, -0.5), (1.0, 0.5)), ((-1.0, 1.0), (0.3, 0.2)))


@dataclass(frozen=True, eq=False)
class Design:
    """Settings that exact and sampled reward design share.

    Fields:
        features: gradient of the designed reward, [S, A, m], so that it is ``features . nu``; or "one-hot" (a parameter
            for each state and action), "state" (one for each state), "three-state" (of the model of that name).
        tau: weight of the entropy in the lower level, > 0, in units of reward.
        alpha: step size of the upper level, > 0.
        upper: "utility", the true return of the lower level's policy; or "preference", the likelihood of a teacher's
            choices between two of its segments.
        ridge: weight of ``-ridge |nu|^2`` in the upper level, >= 0. Without it nothing holds back the scale of the reward.
        teacher_scale: the teacher prefers the first segment with probability ``sigma(teacher_scale (R_0 - R_1))``, true
            returns; >= 0.
        nu0: first parameters [m]; None for zeros.

    Raises `SettingError` and `UnknownNameError` for values outside of these.
    """

    features: Any = "one-hot"
    tau: float = 0.5
    alpha: float = 0.1
    upper: str = "utility"
    ridge: float = 0.05
    teacher_scale: float = 1.0
    nu0: Any = None

    def __post_init__(self) -> None:
        if not (self.tau > 0 and np.isfinite(self.tau)):
            raise SettingError(
                f"tau = {self.tau}; without entropy the best policy jumps as the reward changes and has no derivative: "
                "take tau > 0, try 0.5"
            )
        if not (self.alpha > 0 and np.isfinite(self.alpha)):
            raise SettingError(f"alpha = {self.alpha}; a step size is positive and finite, try 0.1")
        for name in ("ridge", "teacher_scale"):
            if not (getattr(self, name) >= 0 and np.isfinite(getattr(self, name))):
                raise SettingError(f"{name} = {getattr(self, name)}; it must be finite and at least 0")
        if self.upper not in UPPER:
            raise UnknownNameError("upper level", self.upper, UPPER)
        if isinstance(self.features, str) and self.features not in FEATURES:
            raise UnknownNameError("reward features", self.features, FEATURES)

    def features_of(self, S: int, A: int) -> Float[np.ndarray, "S A m"]:
        """The features as an array, checked."""
        return reward_features(self.features, S, A)

    def done(self, state: Any) -> bool:
        """An ascent is never done by itself."""
        return False

    def start(self, m: int) -> Float[np.ndarray, " m"]:
        """The first parameters, checked."""
        nu = np.zeros(m) if self.nu0 is None else np.array(self.nu0, dtype=float)
        if nu.shape != (m,):
            raise ShapeError(f"nu0 must be [m] = [{m}], one parameter a feature; got {list(nu.shape)}")
        check_finite(nu, "nu0")
        return nu


@dataclass(frozen=True, eq=False)
class ExactDesign(Design):
    """Settings of exact reward design, beside those of `Design`.

    Fields:
        route: how the hypergradient is made: "closed" (advantages), "implicit" (the lower level's Hessian), "fisher" (one
            solve with the Fisher matrix); "identity" replaces the Hessian by ``-curvature I``, "none" drops the term that
            says how the data move with nu: both are ablations.
        curvature: see ``route``, > 0.
        segment: steps of a compared segment, >= 1 (upper level "preference").
        lower: "newton", soft policy iteration until the gap to the best regularised value is at most ``lower_tol`` (of the
            largest value); or "gradient", ``lower_steps`` steps of gradient ascent of size ``lower_step`` from where the
            last problem ended.
        lower_steps: >= 1. lower_step: > 0. lower_tol: > 0.
    """

    route: str = "closed"
    curvature: float = 1.0
    segment: int = 2
    lower: str = "newton"
    lower_steps: int = 100
    lower_step: float = 0.25
    lower_tol: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.route not in ROUTES:
            raise UnknownNameError("route to the hypergradient", self.route, ROUTES)
        if self.lower not in LOWER:
            raise UnknownNameError("lower level", self.lower, LOWER)
        for name in ("segment", "lower_steps"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least 1")
        for name in ("curvature", "lower_step", "lower_tol"):
            if not (getattr(self, name) > 0 and np.isfinite(getattr(self, name))):
                raise SettingError(f"{name} = {getattr(self, name)}; it must be positive and finite")


@dataclass(frozen=True, eq=False)
class SampledDesign(Design):
    """Settings of reward design from episodes, beside those of `Design`.

    Fields:
        policy: softmax policy to start from, of the room's `policy_gradient.softmax`. Called with a state it is the policy
            at the state's parameters.
        truncation: episodes are cut after this many steps, >= 1; a teacher compares whole (cut) episodes.
        lower_steps: gradient steps of the lower level between two upper ones, >= 1. lower_batch: episodes of each, >= 1.
        lower_step: their size, > 0.
        upper_batch: episodes of an upper step (pairs, for "preference"), >= 2.
        curvature_batch: *other* episodes for the Hessian and the mixed derivative, >= 1.
        term: "implicit", the distribution term by conjugate gradients on Hessian-vector products; "fisher", with ``-tau F_x``
            for the Hessian: never indefinite, and the same at the lower level's optimum; the ablations "identity" (the
            Hessian taken for ``-damping I``) and "none".
        damping: added to ``-hess V`` or ``tau F_x``, > 0: a sampled Hessian need not be definite.
        cg_steps: largest number of products with the matrix in a solve, >= 1.
    """

    policy: Any = field(kw_only=True)
    truncation: int = 30
    lower_steps: int = 20
    lower_batch: int = 32
    lower_step: float = 0.5
    upper_batch: int = 32
    curvature_batch: int = 64
    term: str = "implicit"
    damping: float = 0.01
    cg_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {
            "truncation": 1,
            "lower_steps": 1,
            "lower_batch": 1,
            "upper_batch": 2,
            "curvature_batch": 1,
            "cg_steps": 1,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least {low}")
        for name in ("lower_step", "damping"):
            if not (getattr(self, name) > 0 and np.isfinite(getattr(self, name))):
                raise SettingError(f"{name} = {getattr(self, name)}; it must be positive and finite")
        if self.term not in TERMS:
            raise UnknownNameError("distribution term", self.term, TERMS)


def check_discounted(gamma: float) -> None:
    """Raises `SettingError` unless ``gamma < 1``."""
    if gamma >= 1:
        raise SettingError(f"gamma = {gamma}; sampled reward design discounts: make the model with gamma < 1")


def reward_features(features: Any, S: int, A: int) -> Float[np.ndarray, "S A m"]:
    """Reward features by name (see `Design`) or as given. Raises `ShapeError`, `NonFiniteError`, `UnknownNameError`."""
    if isinstance(features, str):
        if features == "one-hot":
            return np.eye(S * A).reshape(S, A, S * A)
        if features == "state":
            return np.repeat(np.eye(S)[:, None, :], A, axis=1)
        if features != "three-state":
            raise UnknownNameError("reward features", features, FEATURES)
        features = THREE_STATE_FEATURES
    array = np.array(features, dtype=float)
    if array.ndim != 3 or array.shape[:2] != (S, A) or array.shape[2] < 1:
        raise ShapeError(f"features must be [S, A, m] = [{S}, {A}, m] with m >= 1; got {list(array.shape)}")
    check_finite(array, "features")
    return array


@dataclass(frozen=True, eq=False)
class World:
    """A discounted model as arrays in which terminal states are worth nothing.

    Fields: ``P`` [S, A, S] transitions, none into a terminal state; ``mu`` [S] starts, none in one; ``r`` [S, A] true
    rewards; ``gamma``.
    """

    P: Float[np.ndarray, "S A S"]
    mu: Float[np.ndarray, " S"]
    r: Float[np.ndarray, "S A"]
    gamma: float


def world_of(model: TabularMDP) -> World:
    """The model as a `World`. Raises `DiscountError` unless it is stationary, discounted and without a horizon."""
    if model.horizon is not None or model.gamma >= 1 or model.is_staged:
        raise DiscountError(
            f"reward design needs a discounted model without a horizon; {model.name} has horizon = {model.horizon}, "
            f"gamma = {model.gamma}: make it with horizon=None and gamma=0.9, say"
        )
    P: Any = model.P_at()
    dense = np.asarray(P if isinstance(P, np.ndarray) else P.toarray()).reshape(model.S, model.A, model.S)
    runs = ~np.asarray(model.terminal)
    return World(dense * runs, model.mu * runs, np.asarray(model.r_at()), model.gamma)


@dataclass(frozen=True, eq=False)
class Paths:
    """Every segment that some policy may produce.

    Fields: ``states``, ``actions`` [n, t]; ``mask`` [n, t] False after the end of an episode; ``dynamics`` [n] the
    probability of all that is not the policy's choice.
    """

    states: Int[np.ndarray, "n t"]
    actions: Int[np.ndarray, "n t"]
    mask: Bool[np.ndarray, "n t"]
    dynamics: Float[np.ndarray, " n"]


def paths_of(model: TabularMDP, length: int) -> Paths:
    """All segments of ``length`` steps from the start. Raises `SettingError` when there are more than 2000."""
    world = world_of(model)
    ends = world.P.sum(axis=2)  # what is missing to 1 ends the episode
    rows: list[tuple[float, tuple[int, ...], tuple[int, ...], bool]] = [
        (float(p), (s,), (), bool(model.terminal[s])) for s, p in enumerate(model.mu) if p > 0
    ]
    for step in range(length):
        grown = []
        for p, states, actions, over in rows:
            if over:
                grown.append((p, states, actions, True))
                continue
            s = states[-1]
            for a in range(model.A):
                if step == length - 1:
                    grown.append((p, states, (*actions, a), True))
                    continue
                if ends[s, a] < 1 - 1e-12:
                    grown.append((p * (1 - ends[s, a]), states, (*actions, a), True))
                grown += [
                    (p * world.P[s, a, y], (*states, y), (*actions, a), False) for y in np.flatnonzero(world.P[s, a])
                ]
        rows = grown
        if len(rows) > MAX_PATHS:
            raise SettingError(
                f"there are more than {MAX_PATHS} segments of {length} steps in {model.name}; take a shorter segment, or "
                "sample (SampledParl)"
            )
    n = len(rows)
    states, actions = np.zeros((n, length), dtype=np.int64), np.zeros((n, length), dtype=np.int64)
    mask = np.zeros((n, length), dtype=bool)
    for i, (_, s, a, _) in enumerate(rows):
        states[i, : len(a)], actions[i, : len(a)], mask[i, : len(a)] = s[: len(a)], a, True
    return Paths(states, actions, mask, np.array([p for p, *_ in rows]))
