"""Radii of confidence and learning rates: the theorems' and those of practice, by name.

``T`` episodes of ``H`` stages, ``d`` features (``S A`` for tables), returns in [0, B], failure probability ``delta``.
"""

from __future__ import annotations

import math

NAMES = ("theorem", "practice")
PRACTICAL_RADIUS = {"tabular": 0.2, "linear": 0.3}  # in units of B
PRACTICAL_RATE = 3.0  # times the theorem's learning rate
COVER_ROUNDS = 50  # the linear radius is a fixed point: its class of critics is covered at its own radius


def learning_rate(d: int, H: int, A: int, T: int, B: float) -> float:
    """``sqrt(K log A / (B^2 T))`` with ``K = d H log T`` segments between switches [tan2025]; one segment when T = 1."""
    segments = max(1.0, d * H * math.log(T))
    return math.sqrt(segments * math.log(A) / (B * B * T))


def unbroken_rate(A: int, T: int, B: float) -> float:
    """``sqrt(log A / (B^2 T))``: the rate without resets, one segment."""
    return math.sqrt(math.log(A) / (B * B * T))


def tabular_radius(S: int, A: int, H: int, T: int, B: float, *, delta: float, lam: float, known_rewards: bool) -> float:
    """``c`` such that ``c / sqrt(lam + n)`` covers the error of every ridge average at once, with probability 1 - delta.

    With n samples and any next values in [0, B]: the empirical law is within ``sqrt(2 (S log 2 + L) / n)`` of the true one
    in L1 for all (h, s, a, n) together, ``L = log(H S A T / delta)`` [weissman2003], so averages are off by at most
    ``B sqrt((S log 2 + L) / (2 n))``; the ridge adds ``lam B / (lam + n) <= B sqrt(lam) / sqrt(lam + n)``. Rewards in
    [0, B] that are estimated add ``B sqrt((log 2 + L) / 2)`` [hoeffding1963], with delta halved between the two.
    """
    L = math.log(H * S * A * T / delta) + (0.0 if known_rewards else math.log(2.0))
    c = math.sqrt((S * math.log(2.0) + L) / 2) + math.sqrt(lam)
    return B * (c + (0.0 if known_rewards else math.sqrt((math.log(2.0) + L) / 2) + math.sqrt(lam)))


def linear_radius(d: int, H: int, T: int, B: float, *, delta: float, lam: float) -> float:
    """Radius of the ellipsoid that holds the true weights of every stage and episode, with probability 1 - delta.

    Self-normalised concentration for one fixed value function, and a union over an ``eps``-net of the critics
    ``clip(w . phi + radius |phi|_{Lambda^-1})``, ``eps = d B / T`` [jin2020, Lemmas D.4 and D.6, with the constants that
    this argument gives for noise in [0, B]]. The net grows with the radius: the smallest solution is found by iteration.
    Features of norm at most 1; true weights of norm at most ``2 B sqrt(d)``.
    """
    eps = d * B / T
    largest_w = 2 * B * math.sqrt(d * T / lam)
    radius = 2 * B * math.sqrt(lam * d)
    for _ in range(COVER_ROUNDS):
        net = d * math.log1p(4 * largest_w / eps) + d * d * math.log1p(8 * math.sqrt(d) * radius**2 / (lam * eps**2))
        noise = B * B * (0.5 * d * math.log1p(T / (d * lam)) + net + math.log(H / delta))
        radius = math.sqrt(noise + 8 * T * eps**2) + 2 * B * math.sqrt(lam * d)
    return radius


def most_switches(d: int, H: int, episodes: float, lam: float = 1.0) -> float:
    """``H d log2(1 + episodes / (d lam))``: determinants that double at each switch cannot do so more often.

    Features of norm at most 1. ``episodes`` counts offline episodes too.
    """
    return H * d * math.log2(1 + episodes / (d * lam))
