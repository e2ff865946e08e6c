"""Benchmarks of robust reinforcement learning: a model to learn in, and the same model perturbed to be tested in."""

from __future__ import annotations

from itertools import product

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.models.linear import LinearMDP
from polytheory.models.tabular import TabularMDP

STRIKE, LOWEST, HIGHEST = 100.0, 80.0, 180.0  # of the option, and the range of prices that its features tell apart


def simulated_linear(
    *, offset: float = 0.3, size: float = 0.2, slip: float = 0.001, collapse: float | None = None
) -> LinearMDP:
    """The simulated linear MDP of [liu2024robust, Fig. 1]: five states, sixteen actions, three stages.

    An action is a corner of {-1, 1}^4 and has the pull ``c = offset + size * (mean of its entries)``. In states 0, 1 and 2 it
    leads to state 4 (which pays 1 a stage, for good) with probability c, and else on to the next of them, or by ``slip`` and
    from state 2 always to state 3 (which pays nothing, for good). A stage in states 0 to 2 pays c, but for the first.

    ``collapse`` = q in [0, 1] is the test environment: at the first stage, state 4 is missed for state 3 with
    probability q, and nothing slips. None is the model to learn in.

    Known answer: with the defaults ``V* = 1.624250125`` by the largest pull; after collapse beyond 0.375749875 the smallest
    pull is the best.
    """
    if not (0 <= offset - size and offset + size <= 1 and size >= 0 and 0 <= slip <= 1):
        raise SettingError(
            f"simulated_linear(offset = {offset}, size = {size}, slip = {slip}); [offset - size, offset + size] and slip lie "
            "in [0, 1]"
        )
    if collapse is not None and not 0 <= collapse <= 1:
        raise SettingError(f"collapse = {collapse}; a probability lies in [0, 1], None is the nominal model")
    pull = offset + size * np.array(list(product((-1.0, 1.0), repeat=4))).mean(-1)
    phi = np.zeros((5, len(pull), 4))
    for i in range(3):
        phi[i, :, i], phi[i, :, 3] = 1 - pull, pull
    phi[3, :, 2] = phi[4, :, 3] = 1.0
    measures = np.zeros((3, 4, 5))
    for h in range(3):
        measures[h, :2, min(h, 1) + 1], measures[h, :2, 3] = 1 - slip, slip
        measures[h, 2, 3] = measures[h, 3, 4] = 1.0
    if collapse is not None:
        measures[0, :2] = np.eye(5)[1]
        measures[0, 3] = (1 - collapse) * np.eye(5)[4] + collapse * np.eye(5)[3]
    theta = np.zeros((3, 4))
    theta[1:, 3] = 1.0
    return LinearMDP(phi, measures, theta, np.eye(5)[0], horizon=3, name="simulated-linear")


def american_put(*, price: float = 100.0, up: float = 0.5, step: float = 0.02, horizon: int = 20) -> TabularMDP:
    """An American put of strike 100 on a binomial price, without discount: action 0 holds, action 1 exercises.

    The price moves by the factor ``1 + step`` with probability ``up``, else by ``1 - step``; exercising pays
    ``max(100 - price, 0)`` and ends in the last state, which pays nothing. There are ``horizon`` stages and one move less.
    States are the nodes of the lattice in the order of `put_prices`, then the state after exercise.

    Known answer: from 95, 100 and 105 it is worth 6.4513077385, 3.5197163677 and 1.6415075362.
    """
    if not (price > 0 and 0 <= up <= 1 and 0 < step < 1 and horizon >= 1):
        raise SettingError(
            f"american_put(price = {price}, up = {up}, step = {step}, horizon = {horizon}); price > 0, up in [0, 1], step in "
            "(0, 1) and horizon >= 1 are needed"
        )
    prices = put_prices(price=price, step=step, horizon=horizon)
    end = len(prices)
    P, r = np.zeros((end + 1, 2, end + 1)), np.zeros((end + 1, 2))
    P[:, 1, end] = P[end, 0, end] = 1.0
    r[:end, 1] = np.maximum(STRIKE - prices, 0)
    node = 0
    for moves in range(horizon):
        for _ in range(moves + 1):
            if moves == horizon - 1:
                P[node, 0, end] = 1.0
            else:
                P[node, 0, node + moves + 2], P[node, 0, node + moves + 1] = up, 1 - up
            node += 1
    return TabularMDP(P, r, np.eye(end + 1)[0], horizon, 1.0, name="american-put")


def put_prices(*, price: float = 100.0, step: float = 0.02, horizon: int = 20) -> Float[np.ndarray, " nodes"]:
    """Prices of the nodes: for every number of moves, all numbers of moves up among them."""
    return np.array([price * (1 + step) ** u * (1 - step) ** (m - u) for m in range(horizon) for u in range(m + 1)])


def put_features(prices: Float[np.ndarray, " nodes"], d: int = 30) -> Float[np.ndarray, "S 2 d"]:
    """Features [S, 2, d] of `american_put`: holding interpolates between d prices from 80 to 180; what cannot be learned
    any more (exercising, and the state after it) has zeros.

    Interpolation weights sum to 1 everywhere: prices outside of the range count as its ends. Raises `SettingError`.
    """
    if d < 2:
        raise SettingError(f"d = {d}; interpolation needs at least 2 prices")
    x = (np.clip(prices, LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST) * (d - 1)
    phi = np.zeros((len(prices) + 1, 2, d))
    phi[:-1, 0] = np.maximum(0.0, 1 - np.abs(x[:, None] - np.arange(d)))
    return phi
