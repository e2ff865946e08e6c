"""Layered finite-horizon models: every state belongs to one stage, and an episode walks through the layers once.

Layer h = 0..H-1 has n states; state i of layer h has the number ``h * n + i``, and the last number, ``H * n``, is where
every episode ends. A state's number therefore tells its stage: resets to a state of a later layer, policies and data need
no clock. The theory of agnostic learning is written for such models [jia2023, sec. 2].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from polytheory._typing import Array, Float
from polytheory.errors import NotStochasticError, SettingError, ShapeError
from polytheory.models.tabular import TabularMDP

_ROUNDING = 1e-8  # of probabilities that sum to 1, as `TabularMDP` takes it


class Layers(NamedTuple):
    """Numbers of layers H, states in each n, and actions A."""

    H: int
    n: int
    A: int


class Tables(NamedTuple):
    """A layered model as arrays by layer.

    ``P`` [H, n, A, n] (rows may sum to less than 1: the rest ends the episode; ``P[H-1]`` is 0), ``r`` [H, n, A],
    ``start`` [n].
    """

    P: Float[np.ndarray, "H n A n"]
    r: Float[np.ndarray, "H n A"]
    start: Float[np.ndarray, " n"]


def layered(P: Array, r: Array, start: Array, *, name: str = "layered") -> TabularMDP:
    """A layered model from tables by layer.

    Args:
        P: [H, n, A, n] or [H - 1, n, A, n]; what a row lacks to 1 ends the episode, as does every action of the last layer
            (``P[H-1]`` is not read).
        r: [H, n, A] rewards. start: [n] law of the state of layer 0.

    Raises `ShapeError`, `NotStochasticError` (a row above 1).
    """
    P, r, start = (np.asarray(x, dtype=float) for x in (P, r, start))
    if r.ndim != 3 or P.ndim != 4 or len(P) not in (len(r), len(r) - 1) or P.shape[1:] != (*r.shape[1:], r.shape[1]):
        raise ShapeError(f"a layered model needs P [H, n, A, n] and r [H, n, A]; got {list(P.shape)}, {list(r.shape)}")
    H, n, A = r.shape
    if (P < 0).any() or (P.sum(-1) > 1 + _ROUNDING).any():
        raise NotStochasticError(
            "a row of P is negative somewhere or sums to more than 1; what it lacks ends the episode"
        )
    S = H * n + 1
    flat, end = np.zeros((S, A, S)), S - 1
    for h in range(H - 1):
        flat[h * n : (h + 1) * n, :, (h + 1) * n : (h + 2) * n] = P[h]
    flat[..., end] = np.clip(1.0 - flat.sum(-1), 0.0, None)
    flat[..., end][flat[..., end] < _ROUNDING] = 0.0
    mu = np.zeros(S)
    mu[:n] = start
    rewards = np.concatenate([r.reshape(H * n, A), np.zeros((1, A))])
    return TabularMDP(flat, rewards, mu, H, 1.0, np.arange(S) == end, name=name)


def unrolled(model: TabularMDP, *, horizon: int | None = None) -> TabularMDP:
    """Any small model as a layered one: state (h, s), rewards discounted by ``gamma^h``; terminal states end the episode.

    Args:
        horizon: number of layers; default: the model's own. Needed for a model without one.
    """
    H = horizon or model.horizon
    if H is None:
        raise SettingError(f"{model.name} has no horizon; say after how many steps to cut it: horizon=8")
    if model.horizon is not None and model.is_staged and H > model.horizon:
        raise SettingError(f"horizon = {H}, but the stages of {model.name} end at {model.horizon}")
    shape = (model.S, model.A, model.S)
    stages = [model.P_at(h) for h in range(H)]
    P = np.stack([np.asarray(p.toarray() if model.is_sparse else p).reshape(shape) for p in stages])
    P[..., model.terminal] = 0.0
    r = np.stack([model.r_at(h) * model.gamma**h for h in range(H)])
    start = np.where(model.terminal, 0.0, model.mu)
    if start.sum() < 1 - _ROUNDING:
        raise SettingError(f"{model.name} may start in a terminal state; give it another start distribution")
    return layered(P, r, start, name=f"unrolled({model.name})")


def layers_of(spec: Any) -> Layers:
    """Sizes of a layered model, from its spec or from the model. Raises `SettingError` when it cannot be one."""
    S, H = spec.S, spec.horizon
    if S is None or H is None or S < 2 or (S - 1) % H or spec.gamma != 1.0:
        raise SettingError(
            f"{spec.name or 'the model'} (S = {S}, horizon = {H}, gamma = {spec.gamma}) is not layered; "
            "polytheory.models.layered.unrolled(model, horizon=...) makes it so (polytheory measure: --horizon)"
        )
    return Layers(H, (S - 1) // H, spec.A)


def tables_of(model: TabularMDP) -> Tables:
    """A layered model as arrays by layer. Raises `SettingError` when some transition skips or leaves its layer."""
    H, n, A = layers_of(model)
    P = np.asarray(model.P_at(), dtype=float).reshape(H * n + 1, A, H * n + 1) if not model.is_sparse else None
    if P is None or model.is_staged or (model.mu[n:] > 0).any():
        raise SettingError(f"{model.name} is not layered; polytheory.models.layered.unrolled(model) makes it so")
    out = np.zeros((H, n, A, n))
    for h in range(H - 1):
        out[h] = P[h * n : (h + 1) * n, :, (h + 1) * n : (h + 2) * n]
    inside = np.zeros((H * n + 1, A))
    inside[:-1] = out.sum(-1).reshape(H * n, A)
    if (np.abs(inside + P[..., -1] - 1) > _ROUNDING).any():
        raise SettingError(f"a transition of {model.name} skips a layer; polytheory.models.layered.unrolled mends that")
    return Tables(out, np.array(model.r_at()[:-1]).reshape(H, n, A), np.array(model.mu[:n]))


def uniform_resets(layers: Layers, over: Array | None = None) -> Float[np.ndarray, "H S"]:
    """A reset law for `MuReset` and `HybridResets`: layer by layer uniform, or as given by ``over`` [n] or [H, n]."""
    H, n, _ = layers
    mu = np.full((H, n), 1.0 / n) if over is None else np.broadcast_to(np.asarray(over, dtype=float), (H, n))
    reset = np.zeros((H, H * n + 1))
    for h in range(H):
        reset[h, h * n : (h + 1) * n] = mu[h]
    return reset
