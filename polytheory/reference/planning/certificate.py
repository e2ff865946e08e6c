"""What a planner knows after a sweep, and how that is certified in floating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp

from polytheory._show import compact
from polytheory._typing import Float
from polytheory.access import Spec
from polytheory.errors import DiscountError, NotSolvedError, SettingError, UnknownNameError
from polytheory.models._check import ROW_SUM_TOL
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.bellman import (
    UNIT,
    greedy_actions,
    midpoint_correction,
    q_values,
    residual_bound,
    rounding_bound,
    span_bound,
    sup_norm_bound,
    sweep_rounding,
)

STOPS = ("span", "sup")


@dataclass(frozen=True, eq=False)
class PlanningState:
    """State of the discounted planners.

    Fields:
        v: [S] value, within ``bound`` of the optimal value V*.
        q: [S, A] state-action values of the last sweep (zeros before the first). Its greedy policy is the result: it
            loses at most ``2 * bound`` in every state.
        bound: certified ``max |v - V*|``, rounding included.
        rounding: the part of ``bound`` that is owed to floating point.
        sweeps: full Bellman sweeps so far.
    """

    v: Float[np.ndarray, " S"]
    q: Float[np.ndarray, "S A"]
    bound: float
    rounding: float
    sweeps: int

    __repr__ = compact


@dataclass(frozen=True)
class Facts:
    """What the rounding analysis needs to know of a model.

    Fields: ``terms`` successors of the longest row; ``row_gap`` how far the sum of a row may be from 1, the rounding of
    that sum included; ``reward`` the largest ``|r(s, a)|``.
    """

    terms: int
    row_gap: float
    reward: float


_FACTS: WeakKeyDictionary[TabularMDP, Facts] = WeakKeyDictionary()


def facts(model: TabularMDP) -> Facts:
    """The `Facts` of a model, computed once.

    Raises `DiscountError` when rows that sum to more than 1 leave no contraction.
    """
    if model not in _FACTS:
        _FACTS[model] = _facts(model)
    return _FACTS[model]


def _facts(model: TabularMDP) -> Facts:
    stages = range(model.horizon or 1) if model.is_staged else (0,)
    terms, gap = 1, 0.0
    for h in stages:
        P: Any = model.P_at(h)
        counts = np.diff(P.indptr) if sp.issparse(P) else np.count_nonzero(P, axis=-1)
        terms = max(terms, int(np.max(counts)))
        gap = max(gap, float(np.max(np.abs(np.asarray(P.sum(axis=-1)) - 1))))
    found = Facts(terms, gap + (terms + 1) * UNIT, max(float(np.max(np.abs(model.r_at(h)))) for h in stages))
    if model.horizon is None and model.gamma * (1 + found.row_gap) >= 1:
        raise DiscountError(
            f"gamma = {model.gamma} with rows of P that sum to 1 only up to {found.row_gap:.1e} is no contraction; "
            "divide each row by its sum, or lower gamma"
        )
    return found


def start(access: Any, who: str) -> PlanningState:
    """The state before any sweep: ``v = 0`` with ``|V*| <= max |r| / (1 - gamma)``, rows as inexact as models allow.

    Raises `DiscountError` for a model with a finite horizon.
    """
    spec: Spec = access.spec
    check_discounted(spec, who)
    gap = 1 - spec.gamma * (1 + ROW_SUM_TOL)
    reward = max(abs(x) for x in spec.reward_range)
    scale = reward * (1 + 4 * UNIT) / gap if gap > 0 else (np.inf if reward else 0.0)
    S, A = int(spec.S or 0), int(spec.A or 0)  # None only where states cannot be counted
    return PlanningState(np.zeros(S), np.zeros((S, A)), scale, 0.0, 0)


def check_discounted(spec: Any, who: str) -> None:
    """Raise `DiscountError` unless the problem has a discount below 1 and no horizon."""
    if spec.horizon is not None:
        raise DiscountError(
            f"{who} solves discounted problems without end; {spec.name} has horizon = {spec.horizon}: "
            "use BackwardInduction, or make the model with horizon=None and gamma < 1"
        )


def check_settings(tol: float, stop: str = "span") -> None:
    """Raise unless ``tol`` is a number >= 0 (`SettingError`) and ``stop`` is known (`UnknownNameError`)."""
    if not (np.isfinite(tol) and tol >= 0):
        raise SettingError(f"tol = {tol}; it must be a finite number >= 0, in units of the value")
    if stop not in STOPS:
        raise UnknownNameError("stop", stop, STOPS)


def swept(model: TabularMDP, v: Float[np.ndarray, " S"], sweeps: int, stop: str = "span") -> PlanningState:
    """One greedy sweep from ``v``, and what it certifies.

    With either stop the policy that is greedy in ``q`` loses at most ``2 * bound``: ``T v = T_pi v`` makes V^pi obey
    the same interval as V*.
    """
    q = q_values(model.P_at(), model.r_at(), v, gamma=model.gamma)
    value, bound, rounding = certify(v, np.max(q, axis=-1), facts(model), gamma=model.gamma, stop=stop)
    return PlanningState(value, q, bound, rounding, sweeps)


def certify(
    v: Float[np.ndarray, " S"], raw: Float[np.ndarray, " S"], known: Facts, *, gamma: float, stop: str
) -> tuple[Float[np.ndarray, " S"], float, float]:
    """Value, certified error and its rounding part after one sweep ``raw = T v`` (or ``T_pi v``).

    ``stop = "span"``: the value is moved to the middle of MacQueen's interval [puterman2005, Thm. 6.6.3]; ``"sup"``: it
    is ``T v`` itself with the contraction bound [puterman2005, Thm. 6.3.1].
    """
    if stop == "span":
        value, analytic = midpoint_correction(v, raw, gamma), span_bound(v, raw, gamma)
    else:
        value, analytic = raw, sup_norm_bound(v, raw, gamma)
    rounding = _rounding(v, raw, value, known, gamma)
    return value, analytic + rounding, rounding


def residual_certificate(
    model: TabularMDP, v: Float[np.ndarray, " S"], q: Float[np.ndarray, "S A"]
) -> tuple[float, float]:
    """Certified ``max |v - V*|`` of any v from its state-action values q, and the part owed to rounding."""
    raw = np.max(q, axis=-1)
    rounding = _rounding(v, raw, v, facts(model), model.gamma)
    return residual_bound(raw - v, model.gamma) + rounding, rounding


def _rounding(v: np.ndarray, raw: np.ndarray, value: np.ndarray, known: Facts, gamma: float) -> float:
    size = max(float(np.max(np.abs(x))) for x in (v, raw, value))
    change = float(np.max(np.abs(raw - v)))
    return rounding_bound(size, known.reward, change, gamma=gamma, terms=known.terms, row_gap=known.row_gap)


def stage_error(next_error: float, value: float, known: Facts, *, gamma: float) -> float:
    """Certified error of one backward stage: its own rounding, and the next stage's error carried through it."""
    local = sweep_rounding(value, known.reward, gamma=gamma, terms=known.terms)
    return local + gamma * (1 + known.row_gap) * next_error


def certified(bound: float, rounding: float, tol: float, *, final: bool = False) -> bool:
    """True when ``bound <= tol``.

    Raises `NotSolvedError` when it never will be: the method is at its end (``final``), or rounding is already the
    larger half of the bound.
    """
    if bound <= tol:
        return True
    if final or bound - rounding <= rounding:
        raise NotSolvedError(
            f"tol = {tol:.3g} cannot be certified in float64: the bound is {bound:.3g}, of which rounding is "
            f"{rounding:.3g}; ask for tol >= {max(3 * rounding, 1.5 * bound):.1g}"
        )
    return False


def greedy_policy(q: Float[np.ndarray, "*H S A"]) -> TabularPolicy:
    """The deterministic policy that is greedy in q, ``[S, A]`` or by stage ``[H, S, A]``."""
    return TabularPolicy.deterministic(greedy_actions(q), q.shape[-1])


def info(state: Any) -> dict[str, float]:
    """What a step logs: ``bound``, ``rounding``, ``sweeps``."""
    return {"bound": state.bound, "rounding": state.rounding, "sweeps": state.sweeps}
