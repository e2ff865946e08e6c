"""What a run lost, and why: exact accounts of regret that need the model.

``f``, ``pi`` and occupancies have shape [H, S, A]; ``f_{H+1} = 0``. A critic's entries in terminal states count as 0.
``(T f)_h = r_h + P_h max_a f_{h+1}`` and ``(T^pi f)_h = r_h + P_h <pi_{h+1}, f_{h+1}>``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from polytheory._typing import Float
from polytheory.models.tabular import TabularMDP

Table = Float[np.ndarray, "H S A"]


class Decomposition(NamedTuple):
    """``V^{pi*} - V^pi = tracking - critic_on_star + critic_on_pi``, for any f, pi and pi*.

    Fields: ``tracking`` ``sum_h E_{pi*} <f_h, pi*_h - pi_h>``; ``critic_on_star`` ``sum_h E_{pi*} [f_h - T^pi f]``;
    ``critic_on_pi`` ``sum_h E_pi [f_h - T^pi f]``.
    """

    tracking: float
    critic_on_star: float
    critic_on_pi: float

    @property
    def regret(self) -> float:
        """What the three terms say ``V^{pi*} - V^pi`` is."""
        return self.tracking - self.critic_on_star + self.critic_on_pi


class Certificate(NamedTuple):
    """``V* - V^pi <= bellman + tracking_pi + tracking_star`` when ``f >= T f`` everywhere.

    Fields: ``bellman`` ``sum_h E_pi [f_h - T f]``; ``tracking_pi`` and ``tracking_star`` the sums over h >= 2 under pi, and
    over h >= 1 under pi*, of ``max_a f_h - <pi_h, f_h>``.
    """

    bellman: float
    tracking_pi: float
    tracking_star: float

    @property
    def bound(self) -> float:
        """The certified regret of one episode."""
        return self.bellman + self.tracking_pi + self.tracking_star


def stage_q_values(model: TabularMDP, pi: Table | None = None) -> Table:
    """``Q^pi`` of every stage; Q* for None."""
    q, v = np.zeros((_horizon(model), model.S, model.A)), np.zeros(model.S)
    for h in reversed(range(len(q))):
        q[h] = model.r_at(h) + _expected(model, h, v)
        v = q[h].max(-1) if pi is None else (pi[h] * q[h]).sum(-1)
    return q


def greedy_policy(q: Table) -> Table:
    """All probability on the first best action."""
    return np.eye(q.shape[-1])[q.argmax(-1)]


def value(model: TabularMDP, pi: Table) -> float:
    """Expected return of ``pi``."""
    return float(model.mu @ (pi[0] * stage_q_values(model, pi)[0]).sum(-1))


def visit_law(model: TabularMDP, pi: Table) -> Table:
    """Probability of (s, a) at every stage under ``pi``."""
    d, law = np.zeros(pi.shape), model.mu
    for h in range(len(pi)):
        d[h] = law[:, None] * pi[h]
        P = model.P_at(h)
        law = d[h].reshape(-1) @ (P.reshape(-1, model.S) if isinstance(P, np.ndarray) else P)
    return d


def bellman_gaps(model: TabularMDP, f: Table, pi: Table | None = None) -> Table:
    """``f_h - T f_{h+1}``, or ``f_h - T^pi f_{h+1}``; positive where the critic is optimistic."""
    f, gaps = alive(model, f), np.zeros(f.shape)
    v = np.zeros(model.S)
    for h in reversed(range(len(f))):
        gaps[h] = f[h] - model.r_at(h) - _expected(model, h, v)
        v = f[h].max(-1) if pi is None else (pi[h] * f[h]).sum(-1)
    return alive(model, gaps)


def decomposition(model: TabularMDP, f: Table, pi: Table, pi_star: Table) -> Decomposition:
    """The three terms of the value-difference identity [tan2025; derived by telescoping]."""
    f, gaps = alive(model, f), bellman_gaps(model, f, pi)
    d_star, d = visit_law(model, pi_star), visit_law(model, pi)
    tracking = d_star.sum(-1) * (f * (pi_star - pi)).sum(-1)
    return Decomposition(float(tracking.sum()), float((d_star * gaps).sum()), float((d * gaps).sum()))


def certificate(model: TabularMDP, f: Table, pi: Table, pi_star: Table) -> Certificate:
    """The three sums that bound the regret of one episode of ``pi`` from an optimistic critic."""
    f, gaps = alive(model, f), bellman_gaps(model, f)
    d_star, d = visit_law(model, pi_star), visit_law(model, pi)
    behind = f.max(-1) - (pi * f).sum(-1)
    on_pi, on_star = d.sum(-1) * behind, d_star.sum(-1) * behind
    return Certificate(float((d * gaps).sum()), float(on_pi[1:].sum()), float(on_star.sum()))


def comparator_ratio(d_star: Table, rho: Table) -> Float[np.ndarray, " H"]:
    """``max_{s, a} d*_h / rho_h`` of every stage (0/0 = 0): inf where the data miss the optimal policy."""
    ratio = np.divide(d_star, rho, out=np.where(d_star > 0, np.inf, 0.0), where=rho > 0)
    return ratio.max((-2, -1))


def alive(model: TabularMDP, f: Table) -> Table:
    """``f`` with zeros in terminal states."""
    return np.where(model.terminal[:, None], 0.0, f)


def _expected(model: TabularMDP, h: int, v: Float[np.ndarray, " S"]) -> Float[np.ndarray, "S A"]:
    return (model.P_at(h) @ v).reshape(model.S, model.A)


def _horizon(model: TabularMDP) -> int:
    return int(model.horizon or 1)
