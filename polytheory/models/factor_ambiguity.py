"""Ambiguity around the factors of a linear model, by name: what planners and learners in linear robust MDPs accept."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, ShapeError, UnknownNameError
from polytheory.models._check import check_distributions
from polytheory.models.ambiguity import KL, Ambiguity, ChiSquare, Penalised, TotalVariation
from polytheory.models.linear import LinearMDP

KINDS = ("tv", "kl", "chi2", "penalised-tv", "penalised-kl", "penalised-chi2")
Table = Float[np.ndarray, "H S A"]


def ball_of(kind: str, size: float, support: str = "full") -> Ambiguity | None:
    """The set around one factor; None where nature has no choice."""
    if kind.startswith("penalised"):
        return None if np.isinf(size) else Penalised(kind.removeprefix("penalised-"), size)
    if size == 0:
        return None
    return TotalVariation(size, support) if kind == "tv" else {"kl": KL, "chi2": ChiSquare}[kind](size)


def radii_of(kind: str, radius: Any, H: int, d: int) -> Float[np.ndarray, "H d"]:
    """The radius (or price) of every factor of every stage, from a number, [d] or [H, d].

    Raises `UnknownNameError`, `ShapeError`, `SettingError`.
    """
    check_radius(kind, radius)
    given = np.asarray(radius, dtype=float)
    if given.shape not in ((), (d,), (H, d)):
        raise ShapeError(f"radius is a number, [d] or [H, d] = {[H, d]}; got {list(given.shape)}")
    return np.broadcast_to(given, (H, d))


def check_radius(kind: str, radius: Any) -> None:
    """Raise `UnknownNameError`, `SettingError` unless the radius is one of that kind."""
    if kind not in KINDS:
        raise UnknownNameError("kind of ambiguity", kind, KINDS)
    given = np.asarray(radius, dtype=float)
    if kind.startswith("penalised"):
        if not (given > 0).all():
            raise SettingError(f"radius = {given.min():g}; the price of {kind} is positive, infinite for no robustness")
    elif not ((given >= 0).all() and np.isfinite(given).all() and (kind != "tv" or given.max() <= 1)):
        top = "in [0, 1]" if kind == "tv" else ">= 0 and finite"
        raise SettingError(f"radius from {given.min():g} to {given.max():g}; a radius of {kind} is {top}")


def reference_of(reference: Table | None, H: int, S: int, A: int) -> Table:
    """The reference policy, uniform if None. Raises `SettingError`, `ShapeError`, `NotStochasticError`."""
    if reference is None:
        return np.full((H, S, A), 1.0 / A)
    table = np.asarray(reference, dtype=float)
    if table.shape != (H, S, A):
        raise ShapeError(f"the reference policy must be [H, S, A] = {[H, S, A]}; got {list(table.shape)}")
    check_distributions(table, "reference")
    if not (table > 0).all():
        raise SettingError(
            "the reference policy leaves out an action: whoever takes it pays an infinite relative entropy"
        )
    return table


def check_eta(eta: float) -> None:
    """Raise `SettingError` unless 0 <= eta < inf."""
    if not (eta >= 0 and np.isfinite(eta)):
        raise SettingError(f"eta = {eta}; the price of the relative entropy is >= 0 and finite, 0 is none")


def check_factors(model: LinearMDP) -> int:
    """The horizon of a model in which nature can act on factors. Raises `SettingError`, `NotStochasticError`."""
    if model.horizon is None or model.gamma != 1:
        raise SettingError(
            f"{model.name} has horizon {model.horizon}, gamma {model.gamma}; give a horizon and gamma = 1"
        )
    check_distributions(model.phi, "phi")
    check_distributions(model.measures, "measures")
    return model.horizon


def factor_features(phi: Any, S: int, A: int) -> Float[np.ndarray, "S A d"]:
    """Features as weights of factors; None is one factor for every pair of state and action.

    A row of zeros says that nothing is left to learn of a pair. Raises `ShapeError`, `SettingError`.
    """
    if phi is None:
        return np.eye(S * A).reshape(S, A, S * A)
    given = np.asarray(phi, dtype=float)
    if given.shape[:2] != (S, A) or given.ndim != 3:
        raise ShapeError(f"phi must be [S, A, d] with S, A = {S}, {A}; got {list(given.shape)}")
    total = given.sum(-1)
    bad = (given < 0).any(-1) | ((np.abs(total - 1) > 1e-8) & (total != 0))
    if bad.any():
        s, a = np.argwhere(bad)[0]
        raise SettingError(
            f"phi[{s}, {a}] = {np.round(given[s, a], 4).tolist()[:8]} is no law over the factors; features are >= 0 and sum to "
            "1, or all 0 where nothing is left to learn"
        )
    return given


def check_mixture(shape: tuple[int, ...], phi: Any, nominal: Any, ridge: float) -> None:
    """Shapes and ranges of a mixture of reward models. Raises `ShapeError`, `SettingError`, `NotStochasticError`."""
    phi, nominal = np.asarray(phi), np.asarray(nominal)
    if len(shape) != 2 or phi.ndim != 2 or phi.shape[0] != shape[0] or nominal.shape != (phi.shape[1], shape[1]):
        raise ShapeError(
            f"scores [n, M], domains [n, d] and nominal mixtures [d, M] must fit; got {list(shape)}, {list(phi.shape)} and "
            f"{list(nominal.shape)}"
        )
    check_distributions(phi, "domains")
    check_distributions(nominal, "nominal")
    if not (ridge >= 0 and np.isfinite(ridge)):
        raise SettingError(f"ridge = {ridge}; it is >= 0 and finite")


def check_fail_state(fail_state: int | None, S: int) -> None:
    """Raise `SettingError` unless it is None or one of S states."""
    if fail_state is not None and not 0 <= fail_state < S:
        raise SettingError(f"fail_state = {fail_state}; it is the number of one of the {S} states, or None")


def check_learner(x: Any) -> None:
    """Ranges of the settings of a robust regularised learner, the same in both rooms. Raises `SettingError`, ..."""
    check_radius(x.kind, x.radius)
    check_eta(x.eta)
    if x.constants != "practice":
        raise SettingError(
            "no constants of a theorem are known for this method; keep constants = 'practice' and set bonus_scale, "
            "the factor of the bonus"
        )
    if x.moving_reference and x.eta == 0:
        raise SettingError("moving_reference follows the policy by steps of 1 / eta; give eta > 0")
