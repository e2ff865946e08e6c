"""Optimistic critics of episodic methods: what was seen, ridge regression backward over the stages, and a bonus.

A critic is ``f`` [H, S, A]. With features ``phi`` [S, A, d] it is linear; without (None) it is tabular, which is the
linear one with one-hot features. Finite sums of features need only counts, so counts are all that is kept of the data.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from polytheory._typing import Bool, Float, Shaped
from polytheory.errors import SettingError
from polytheory.trajectories import Trajectories

Table = Float[np.ndarray, "H S A"]
LOG_2 = float(np.log(2.0))
TIE = 1e-9  # determinants that double exactly must count as doubled in spite of rounding, in both rooms


class Seen(NamedTuple):
    """The data as sums.

    Fields: ``n`` [H, S, A] visits; ``N`` [H, S, A, S] transitions into a state from which the episode went on, so that an
    episode that ends early is worth nothing from there; ``R`` [H, S, A] sums of rewards.
    """

    n: np.ndarray
    N: np.ndarray
    R: np.ndarray


def nothing_seen(H: int, S: int, A: int) -> Seen:
    """No data."""
    return Seen(np.zeros((H, S, A), np.int64), np.zeros((H, S, A, S), np.int64), np.zeros((H, S, A)))


def add_episodes(seen: Seen, traj: Trajectories) -> Seen:
    """The data with episodes added; column t of the trajectories is stage t.

    Raises `SettingError` for more steps than stages, or states and actions out of range.
    """
    n, N, R = (x.copy() for x in seen)
    H, S, A = n.shape
    row, t = np.nonzero(np.asarray(traj.mask))
    s, a, r = (np.asarray(x)[row, t] for x in (traj.states, traj.actions, traj.rewards))
    if t.size and (t.max() >= H or s.min() < 0 or s.max() >= S or a.min() < 0 or a.max() >= A):
        raise SettingError(f"episodes must have at most {H} steps in {S} states and {A} actions; found others")
    np.add.at(n, (t, s, a), 1)
    np.add.at(R, (t, s, a), r)
    goes_on = np.zeros(len(t), dtype=bool)
    goes_on[:-1] = (row[1:] == row[:-1]) & (t[1:] == t[:-1] + 1)
    i = np.flatnonzero(goes_on)
    np.add.at(N, (t[i], s[i], a[i], s[i + 1]), 1)
    return Seen(n, N, R)


def bonus(width: Float[np.ndarray, "S A"], radius: float) -> Float[np.ndarray, "S A"]:
    """``radius * width``, the largest of ``(w - w_hat) . phi`` over the ellipsoid ``|w - w_hat|_Lambda <= radius``."""
    return radius * width


def next_value(f: Float[np.ndarray, "S A"], pi: Float[np.ndarray, "S A"] | None) -> Float[np.ndarray, " S"]:
    """What the critic regresses on: the best action (target Q*), or the action of ``pi`` (target Q^pi)."""
    return f.max(-1) if pi is None else (pi * f).sum(-1)


def gram(n: Shaped[np.ndarray, "*n S A"], phi: Float[np.ndarray, "S A d"], lam: float) -> Float[np.ndarray, "*n d d"]:
    """``Lambda = lam I + sum n phi phi^T`` of tables of counts [..., S, A]."""
    flat = phi.reshape(-1, phi.shape[-1])
    weighted = flat * n.reshape(*n.shape[:-2], -1, 1)
    return lam * np.eye(phi.shape[-1]) + weighted.swapaxes(-1, -2) @ flat


def widths(Lambda: Float[np.ndarray, "*n d d"], phi: Float[np.ndarray, "S A d"]) -> Float[np.ndarray, "*n S A"]:
    """``|phi(s, a)|`` in the norm of ``Lambda^{-1}``."""
    flat = phi.reshape(-1, phi.shape[-1])
    square = ((flat @ np.linalg.inv(Lambda)) * flat).sum(-1)
    return np.sqrt(square).reshape(*Lambda.shape[:-2], *phi.shape[:-1])


def estimate(n, sums, phi, lam: float, shrink: bool = True):
    """Ridge estimate of ``sums / n`` and its width, both [S, A], at one stage.

    ``shrink`` divides counts by ``lam + n`` (ridge), else a table divides by ``max(n, 1)`` (plain average).
    """
    if phi is None:
        return sums / (lam + n if shrink else np.maximum(n, 1)), 1 / np.sqrt(lam + n)
    Lambda = gram(n, phi, lam)
    w = np.linalg.solve(Lambda, np.einsum("sa,sad->d", sums, phi))
    return phi @ w, widths(Lambda, phi)


def optimistic_critic(
    seen: tuple[Any, Any, Any],
    phi: Float[np.ndarray, "S A d"] | None,
    r: Table | None,
    radius: Float[np.ndarray, " H"],
    caps: Float[np.ndarray, " H"],
    lam: float = 1.0,
    pi: Table | None = None,
) -> Table:
    """``f_h = clip(estimate of r_h + next value + bonus, 0, caps_h)``, backward over the stages.

    The regression targets of stage h use the critic of stage h + 1 that was refitted just before; ``r`` None estimates the
    rewards too. Radius 0 is no optimism: then a table averages plainly.
    """
    data = Seen(*seen)
    f = np.zeros(data.n.shape)
    v = np.zeros(data.n.shape[1])
    for h in reversed(range(len(f))):
        sums = data.N[h] @ v + (data.R[h] if r is None else 0.0)
        mean, width = estimate(data.n[h], sums, phi, lam, bool(radius[h] > 0))
        f[h] = np.clip((0.0 if r is None else r[h]) + mean + bonus(width, radius[h]), 0, caps[h])
        v = next_value(f[h], None if pi is None else pi[h])
    return f


def information(
    n: Shaped[np.ndarray, "H S A"], phi: Float[np.ndarray, "S A d"] | None, lam: float = 1.0
) -> Float[np.ndarray, " H"]:
    """``log det(Lambda_h) - log det(lam I)`` of every stage."""
    if phi is None:
        return np.log1p(n / lam).sum((-2, -1))
    factors = np.linalg.cholesky(gram(n, phi, lam))
    return 2 * np.log(np.einsum("hdd->hd", factors)).sum(-1) - phi.shape[-1] * np.log(lam)


def switch_due(now: Float[np.ndarray, "*n H"], before: Float[np.ndarray, "*n H"]) -> Bool[np.ndarray, "*n"]:
    """True when the determinant of some stage has doubled since the last switch."""
    return np.asarray((now - before >= LOG_2 - TIE).any(-1))
