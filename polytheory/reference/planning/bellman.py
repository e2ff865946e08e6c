"""The Bellman operator, and the error bounds that one application of it buys.

Setting: a finite discounted MDP, ``0 <= gamma < 1``, transitions ``P`` dense ``[S, A, S]`` or CSR ``(S*A, S)`` with row
``s*A + a``, expected rewards ``r [S, A]``. ``(T v)(s) = max_a q(s, a)`` with ``q = r + gamma * P v``.

These are the named parts of planning: each formula of the family stands here once.
"""

from __future__ import annotations

import numpy as np

from polytheory._typing import Array, Float, Int

UNIT = 2.0**-53  # unit roundoff of float64


def q_values(
    P: Array, r: Float[np.ndarray, "*SA"], v: Float[np.ndarray, " S"], *, gamma: float
) -> Float[np.ndarray, "*SA"]:
    """State-action values ``r + gamma * P v``.

    Args:
        P: ``[S, A, S]`` or CSR ``(S*A, S)``; of one policy ``[S, S]`` with ``r [S]``.
        r: expected rewards ``[S, A]``.
        v: values of the next state ``[S]``.

    Returns:
        An array of the shape of ``r``.
    """
    return discounted(r, np.reshape(P @ v, r.shape), gamma)


def discounted(reward: Array, next_value: Array, gamma: Array) -> Array:
    """Reward now and the next value discounted (operators only)."""
    return reward + gamma * next_value


def greedy_actions(q: Float[np.ndarray, "*H S A"]) -> Int[np.ndarray, "*H S"]:
    """The first maximising action of every state (and stage)."""
    return np.argmax(q, axis=-1)


def greedy_backup(
    P: Array, r: Float[np.ndarray, "*SA"], v: Float[np.ndarray, " S"], *, gamma: float
) -> Float[np.ndarray, " S"]:
    """Apply the optimal Bellman operator once: ``(T v)(s) = max_a r(s, a) + gamma * sum_y P(y | s, a) v(y)``.

    Guarantee: ``|T v - T w| <= gamma * |v - w|`` in sup norm [puterman2005, Prop. 6.2.4], monotone, and
    ``T(v + c) = T v + gamma c`` for constants c.
    """
    return np.max(q_values(P, r, v, gamma=gamma), axis=-1)


def policy_backup(
    P: Array, r: Float[np.ndarray, "S A"], pi: Float[np.ndarray, "S A"], v: Float[np.ndarray, " S"], *, gamma: float
) -> Float[np.ndarray, " S"]:
    """Apply the Bellman operator of a policy: ``(T_pi v)(s) = sum_a pi(a | s) q(s, a)``."""
    return np.sum(pi * q_values(P, r, v, gamma=gamma), axis=-1)


def restrict(
    P: Array, r: Float[np.ndarray, "S A"], actions: Int[np.ndarray, " S"]
) -> tuple[Array, Float[np.ndarray, " S"]]:
    """Transitions ``[S, S]`` (CSR when ``P`` is) and rewards ``[S]`` of the deterministic policy ``actions``."""
    states = np.arange(actions.size)
    P_pi = P[states, actions] if isinstance(P, np.ndarray) else P[states * r.shape[1] + actions]
    return P_pi, r[states, actions]


def bellman_residual(
    P: Array, r: Float[np.ndarray, "*SA"], v: Float[np.ndarray, " S"], *, gamma: float
) -> Float[np.ndarray, " S"]:
    """``T v - v``, zero exactly at the optimal value."""
    return greedy_backup(P, r, v, gamma=gamma) - v


def span(x: Float[np.ndarray, " S"]) -> float:
    """Span seminorm ``max x - min x``: blind to constants."""
    return float(np.max(x) - np.min(x))


def midpoint_shift(low: Array, high: Array, gamma: Array) -> Array:
    """The constant that centres MacQueen's interval when ``low <= T v - v <= high`` (operators only)."""
    return gamma * (low + high) / (2 * (1 - gamma))


def half_width(low: Array, high: Array, gamma: Array) -> Array:
    """Half the width of MacQueen's interval when ``low <= T v - v <= high`` (operators only)."""
    return gamma * (high - low) / (2 * (1 - gamma))


def midpoint_correction(
    v_old: Float[np.ndarray, " S"], v_new: Float[np.ndarray, " S"], gamma: float
) -> Float[np.ndarray, " S"]:
    """Move ``v_new = T v_old`` to the middle of MacQueen's interval.

    With ``d = v_new - v_old``: ``v_new + g min d <= V* <= v_new + g max d``, ``g = gamma / (1 - gamma)``
    [macqueen1966; puterman2005, Thm. 6.6.3].
    """
    d = v_new - v_old
    return v_new + midpoint_shift(np.min(d), np.max(d), gamma)


def span_bound(v_old: Float[np.ndarray, " S"], v_new: Float[np.ndarray, " S"], gamma: float) -> float:
    """Sup-norm error of `midpoint_correction`: ``gamma / (1 - gamma) * span(v_new - v_old) / 2``."""
    d = v_new - v_old
    return float(half_width(np.min(d), np.max(d), gamma))


def sup_norm_bound(v_old: Float[np.ndarray, " S"], v_new: Float[np.ndarray, " S"], gamma: float) -> float:
    """Sup-norm error of ``v_new = T v_old``: ``gamma / (1 - gamma) * |v_new - v_old|`` [puterman2005, Thm. 6.3.1]."""
    return float(gamma / (1 - gamma) * np.max(np.abs(v_new - v_old)))


def residual_bound(residual: Float[np.ndarray, " S"], gamma: float) -> float:
    """Sup-norm error of any v with ``residual = T v - v``: ``|residual| / (1 - gamma)``."""
    return float(np.max(np.abs(residual)) / (1 - gamma))


def sweep_rounding(value: Array, reward: Array, *, gamma: float, terms: int, unit: float = UNIT) -> Array:
    """Largest rounding error of one entry of a computed ``T v`` with ``|v| <= value``, ``|r| <= reward``.

    A dot product of ``terms`` numbers errs by at most ``terms * unit`` relative to the sum of absolute products, in any
    order of summation [higham2002, eq. 3.5]; the discount and the reward add two operations; two more cover the
    second-order terms for up to 10^7 successors.
    """
    return (terms + 4) * unit * (reward + gamma * value)


def rounding_bound(
    value: Array, reward: Array, change: Array, *, gamma: float, terms: int, row_gap: float, unit: float = UNIT
) -> Array:
    """What finite precision may add to the bounds above.

    Setting: rows of ``P`` sum to 1 within ``row_gap``; ``value``, ``reward`` and ``change`` bound ``|v_old|`` and
    ``|v_new|``, ``|r|`` and ``|v_new - v_old|``; V* is the optimal value of the numbers as stored.

    Derivation: the computed ``T v`` errs by `sweep_rounding`, which the fixed point amplifies by ``1 / (1 - gamma)``;
    forming the difference, the shift and the sum costs at most eight roundings of numbers of size ``value + change``,
    amplified likewise; rows that do not sum to 1 replace gamma by ``gamma (1 + row_gap)``, which moves the factors
    ``gamma / (1 - gamma)`` and ``1 / (1 - gamma)`` by the last term.
    """
    local = sweep_rounding(value, reward, gamma=gamma, terms=terms, unit=unit) + 8 * unit * (value + change)
    leak = gamma * row_gap * change / (1 - gamma * (1 + row_gap))
    return (local + leak) / (1 - gamma)
