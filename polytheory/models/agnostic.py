"""Layered models on which agnostic learning is tried: two states, the traps of the reset learners, rich observations."""

from __future__ import annotations

import numpy as np

from polytheory.errors import SettingError
from polytheory.models.layered import layered
from polytheory.models.tabular import TabularMDP

_STEP = (((0.9, 0.1), (0.4, 0.6)), ((0.7, 0.3), (0.2, 0.8)))


def layered_two_state(*, horizon: int = 3) -> TabularMDP:
    """Two states in each layer, the same moves in all, returns in [0, 1]; the start is state 0.

    Known answers at horizon 3: the best policy is worth 0.45866667, the best that plays action 1 in at most one state
    0.22533333, in at most two 0.28533333.
    """
    _check("layered_two_state", horizon, 1)
    r = np.array([[0.2, 0.0], [0.0, 1.0]]) / horizon
    return layered([_STEP] * horizon, [r] * horizon, [1.0, 0.0], name="layered-two-state")


def psdp_trap() -> TabularMDP:
    """Two layers on which dynamic programming over a class fails although every state is covered [krishnamurthy2025].

    Action a of layer 0 leads to state u (a = 0) or v (a = 1) of layer 1, whose state w is never reached; u pays 1/2 for
    action 1, w pays 1 for action 0. Known answer: with the two constant choices in each layer and uniform resets, exact
    PSDP is worth 0 and the best of the class 1/2.
    """
    P = np.zeros((1, 3, 2, 3))
    P[0, :, 0, 0] = P[0, :, 1, 1] = 1.0
    r = np.zeros((2, 3, 2))
    r[1, 0, 1], r[1, 2, 0] = 0.5, 1.0
    return layered(P, r, [1.0, 0.0, 0.0], name="psdp-trap")


def error_amplification(*, horizon: int = 5, last: float = 0.05) -> TabularMDP:
    """A model in which one small mistake of PSDP in the last layer grows by 1.9 a layer, although an optimal policy is in
    the class [krishnamurthy2025, in the spirit of].

    States B and G. Action 0 goes to B of the next layer, and pays 1 in the last; action 1 ends the episode and pays 1 in
    G, ``1 - last * 1.9^(H-1-h)`` in B of layer h. Always action 0 is optimal and worth 1.
    """
    _check("error_amplification", horizon, 1)
    cost = last * 1.9 ** np.arange(horizon - 1, -1, -1)
    if not 0 < last or cost[0] >= 1:
        raise SettingError(f"last = {last}; 0 < last * 1.9^(horizon - 1) < 1 is needed, here it is {cost[0]:.4g}")
    P, r = np.zeros((horizon, 2, 2, 2)), np.zeros((horizon, 2, 2))
    P[:, :, 0, 0] = 1.0
    r[:, 0, 1], r[:, 1, 1] = 1 - cost, 1.0
    r[-1, :, 0] = 1.0
    return layered(P, r, [1.0, 0.0], name="error-amplification")


def block_two_state(*, horizon: int = 3, emission: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)) -> TabularMDP:
    """The layered two-state model seen through observations of its own for each state, drawn with law ``emission``."""
    _check("block_two_state", horizon, len(emission))
    e = np.kron(np.eye(2), np.array(emission)[None])  # [2, X]
    latent = np.argmax(e > 0, axis=0)
    P = np.array(_STEP)[latent] @ e
    r = np.array([[0.2, 0.0], [0.0, 1.0]])[latent] / horizon
    return layered([P] * horizon, [r] * horizon, e[0], name="block-two-state")


def _check(name: str, horizon: int, least: int) -> None:
    if horizon < 1 or least < 1:
        raise SettingError(f"{name}(horizon = {horizon}); at least 1 layer and 1 observation are needed")
