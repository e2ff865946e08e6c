"""One-dimensional models: exploration is hard, mixing is slow, or both."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from polytheory.errors import SettingError
from polytheory.models._check import stored
from polytheory.models.tabular import GridLayout, TabularMDP

LEFT, RIGHT = 0, 1
_ARROWS = ("←", "→")


def riverswim(*, S: int = 6, gamma: float = 1.0, horizon: int | None = 20) -> TabularMDP:
    """RiverSwim [strehl2008]: swimming right against the current is slow; a small reward waits on the left.

    LEFT always moves one to the left; in state 0 it pays 0.005. RIGHT moves right with probability 0.35 (0.6 from the left
    bank), left with 0.05, else stays; in the last state it stays with probability 0.6, moves left with 0.4 and pays 1.

    Known answer: with 6 states and a horizon of 20, always RIGHT is optimal at the first stage in every state.
    """
    if S < 2:
        raise SettingError(f"riverswim(S = {S}); at least 2 states are needed")
    P, r = np.zeros((S, 2, S)), np.zeros((S, 2))
    s = np.arange(S)
    P[s, LEFT, np.maximum(s - 1, 0)] = 1.0
    inner = np.arange(1, S - 1)
    P[inner, RIGHT, inner - 1], P[inner, RIGHT, inner], P[inner, RIGHT, inner + 1] = 0.05, 0.6, 0.35
    P[0, RIGHT, 0], P[0, RIGHT, 1] = 0.4, 0.6
    P[S - 1, RIGHT, S - 1], P[S - 1, RIGHT, S - 2] = 0.6, 0.4
    r[0, LEFT], r[S - 1, RIGHT] = 0.005, 1.0
    return TabularMDP(P, r, np.eye(S)[0], horizon, gamma, name="riverswim", grid=GridLayout(1, S, _ARROWS))


def chain(*, S: int = 5, slip: float = 0.2, gamma: float = 0.99, horizon: int | None = None) -> TabularMDP:
    """The chain of [dearden1998]: forward pays 10 at the end, back pays 2 and returns to the start; actions may slip.

    Action 1 moves forward, action 0 returns to state 0; with probability ``slip`` the other one happens.

    Known answer for slip = 0: always forward is optimal when ``10 gamma^(S-1) >= 2``, with
    ``V*(0) = 10 gamma^(S-1) / (1 - gamma)``.
    """
    if S < 2 or not 0 <= slip <= 1:
        raise SettingError(f"chain(S = {S}, slip = {slip}); S >= 2 states and slip in [0, 1] are needed")
    s = np.arange(S)
    forward, back = np.zeros((S, S)), np.zeros((S, S))
    forward[s, np.minimum(s + 1, S - 1)] = 1.0
    back[:, 0] = 1.0
    r_forward, r_back = np.where(s == S - 1, 10.0, 0.0), np.full(S, 2.0)
    P = np.stack([(1 - slip) * back + slip * forward, (1 - slip) * forward + slip * back], axis=1)
    r = np.stack([(1 - slip) * r_back + slip * r_forward, (1 - slip) * r_forward + slip * r_back], axis=1)
    return TabularMDP(P, r, np.eye(S)[0], horizon, gamma, name="chain", grid=GridLayout(1, S, ("↺", "→")))


def combination_lock(*, H: int = 8, A: int = 2, seed: int = 0) -> TabularMDP:
    """A lock of H digits: one action per stage keeps the lock open, any other closes it for good; reward 1 at the end.

    States 0..H-1 are the digits entered so far, all right; H is the closed lock and H+1 the opened one, both terminal. Random
    exploration opens the lock with probability A^-H.

    Known answer: ``J* = 1``; the combination is drawn from ``seed`` and is the only policy with a positive return.
    """
    if H < 1 or A < 1:
        raise SettingError(f"combination_lock(H = {H}, A = {A}); both must be at least 1")
    code = np.random.default_rng(seed).integers(A, size=H)
    P, r = np.zeros((H + 2, A, H + 2)), np.zeros((H + 2, A))
    closed, opened = H, H + 1
    P[:, :, closed] = 1.0
    h = np.arange(H)
    P[h, code, closed] = 0.0
    P[h, code, np.where(h + 1 < H, h + 1, opened)] = 1.0
    r[H - 1, code[-1]] = 1.0
    P[opened] = 0.0
    P[opened, :, opened] = 1.0
    terminal = np.isin(np.arange(H + 2), [closed, opened])
    return TabularMDP(P, r, np.eye(H + 2)[0], H, 1.0, terminal, name="combination-lock")


def ring(*, S: int = 1000, A: int = 2, slip: float = 0.1, gamma: float = 0.99, sparse: bool = True) -> TabularMDP:
    """A ring that is walked one step at a time; one state pays 1. Mixing takes of the order of S^2 steps.

    Even actions step forward, odd ones back, with step length ``1 + a // 2``; with probability ``slip`` the walker stays.

    Known answer at A = 2 and slip = 0: the state at ring distance d from the paying one has
    ``V* = gamma^d * V*(pay)``; the paying state's action 0 or 1 costs two steps to come back.
    """
    _check_walk("ring", S, A, slip)
    s, a = np.repeat(np.arange(S), A), np.tile(np.arange(A), S)
    step = (1 + a // 2) * np.where(a % 2 == 0, 1, -1)
    r = np.zeros((S, A))
    r[0] = 1.0
    return _walk("ring", s, (s + step) % S, slip, r, gamma, sparse)


def river(*, S: int = 1000, A: int = 2, slip: float = 0.3, gamma: float = 0.99, sparse: bool = True) -> TabularMDP:
    """A long river: odd actions swim to the right (reward 1 at the end), even ones drift to the left (0.01 at the start).

    Action a moves ``1 + a // 2`` states; with probability ``slip`` the swimmer stays. The banks reflect.
    """
    _check_walk("river", S, A, slip)
    s, a = np.repeat(np.arange(S), A), np.tile(np.arange(A), S)
    step = (1 + a // 2) * np.where(a % 2 == 0, -1, 1)
    r = np.zeros((S, A))
    r[0, 0::2] = 0.01
    r[S - 1, 1::2] = 1.0
    return _walk("river", s, np.clip(s + step, 0, S - 1), slip, r, gamma, sparse)


def _check_walk(name: str, S: int, A: int, slip: float) -> None:
    if S < 2 or A < 1 or not 0 <= slip < 1:
        raise SettingError(f"{name}(S = {S}, A = {A}, slip = {slip}); S >= 2, A >= 1 and slip in [0, 1) are needed")


def _walk(name, s, target, slip, r, gamma, sparse) -> TabularMDP:
    S, A = r.shape
    rows = np.arange(S * A)
    P = sp.csr_matrix((np.full(S * A, 1 - slip), (rows, target)), shape=(S * A, S))
    if slip > 0:
        P = (P + sp.csr_matrix((np.full(S * A, slip), (rows, s)), shape=(S * A, S))).tocsr()
    mu = np.full(S, 1.0 / S)
    return TabularMDP(stored(P, S, A, sparse), r, mu, gamma=gamma, name=name)
