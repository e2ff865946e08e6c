"""Gymnasium's toy-text tables, read in one call.

In ``env.unwrapped.P`` a transition flagged *terminated* ends the episode, but the row of the state it leads to need not be
absorbing: CliffWalking's goal moves on, and Taxi's drop-off states go on driving. The reader makes episodes end where
Gymnasium ends them, and says what it rewired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from polytheory.errors import ModelError, require
from polytheory.models.tabular import GridLayout, TabularMDP


def from_gymnasium(env: Any, *, gamma: float = 0.99, horizon: int | None = None, **options: Any) -> TabularMDP:
    """Read a toy-text environment as an absorbing `TabularMDP`; see `read_gymnasium`.

    Args:
        env: an environment with ``env.unwrapped.P``, or its id such as "FrozenLake-v1" (``options`` go to
            ``gymnasium.make``).
        gamma, horizon: as in `TabularMDP`; Gymnasium's tables carry no discount.
    """
    return read_gymnasium(env, gamma=gamma, horizon=horizon, **options)[0]


def read_gymnasium(
    env: Any, *, gamma: float = 0.99, horizon: int | None = None, **options: Any
) -> tuple[TabularMDP, tuple[str, ...]]:
    """Read a toy-text environment, and say in plain sentences what was rewired.

    A state is made absorbing with reward 0 when it is only ever entered by terminated transitions. A terminated transition
    into a state that episodes also pass through alive is redirected to one extra state, a sink; its reward is kept. Time
    limits of ``gymnasium.make`` are no part of the table: they cut episodes, they do not end them.

    Returns:
        The model, with CSR transitions and rewards when the table is large (S > 64), and the notes.

    Raises:
        ModelError: the environment has no table, or moves outside it. MissingExtraError: an id was given and Gymnasium is not
            installed.
    """
    if isinstance(env, str):
        gymnasium = require("gymnasium", "envs")
        try:
            env = gymnasium.make(env, **options)
        except gymnasium.error.Error as error:
            raise ModelError(f"Gymnasium cannot make {env!r}: {error}") from error
    inner = getattr(env, "unwrapped", env)
    table = getattr(inner, "P", None)
    if not isinstance(table, Mapping):
        raise ModelError(
            f"{inner!r} has no transition table env.unwrapped.P; FrozenLake, Taxi and CliffWalking have one"
        )
    if getattr(inner, "fickle_passenger", False):
        raise ModelError(
            "a fickle passenger changes the destination outside env.P; make Taxi with fickle_passenger=False"
        )
    S, A = len(table), len(table[0])
    row, after, p, r, done = _entries(table, S, A)
    mu = np.array(getattr(inner, "initial_state_distrib", np.full(S, 1.0 / S)), dtype=float)

    ends = np.zeros(S, dtype=bool)
    ends[after[done]] = True
    alive = _alive(mu > 0, ends, row // A, after, done)
    absorbing, shared = ends & ~alive, ends & alive
    notes = []
    if absorbing.any():
        moving = _count_moving(absorbing, row, after, r, A)
        if moving:
            notes.append(f"{moving} end states whose rows moved on or paid were made absorbing with reward 0")
    n = S
    if shared.any():
        n = S + 1
        to_sink = done & shared[after]
        after = np.where(to_sink, S, after)
        notes.append(
            f"{int(to_sink.sum())} terminated transitions lead to {int(shared.sum())} states that episodes also pass "
            f"through; they now lead to one extra absorbing state {S}"
        )
    keep = ~absorbing[row // A]
    mixed = _mixed_rewards(row[keep], after[keep], r[keep])
    if mixed:
        notes.append(f"{mixed} transitions can pay several rewards; the model pays their mean")
    stops = np.concatenate([np.flatnonzero(absorbing), [S] if n > S else []]).astype(int)
    stop_rows = (stops[:, None] * A + np.arange(A)).ravel()
    rows = np.concatenate([row[keep], stop_rows])
    columns = np.concatenate([after[keep], np.repeat(stops, A)])
    probs = np.concatenate([p[keep], np.ones(stop_rows.size)])
    paid = np.concatenate([p[keep] * r[keep], np.zeros(stop_rows.size)])
    shape = (n * A, n)
    P: Any = sp.csr_matrix((probs, (rows, columns)), shape=shape)  # repeated entries add up
    R: Any = _divided(sp.csr_matrix((paid, (rows, columns)), shape=shape), P)
    if n <= 64:
        P, R = P.toarray().reshape(n, A, n), R.toarray().reshape(n, A, n)
    terminal = np.zeros(n, dtype=bool)
    terminal[stops] = True
    name = getattr(getattr(env, "spec", None), "id", None) or type(inner).__name__
    mu = np.pad(mu, (0, n - S))
    return TabularMDP(P, R, mu, horizon, gamma, terminal, name=name, grid=_layout(inner)), tuple(notes)


def _entries(table: Mapping, S: int, A: int) -> tuple[np.ndarray, ...]:
    """Rows s * A + a, next states, probabilities, rewards and ends of the entries with a positive probability."""
    try:
        cells = [(s * A + a, table[s][a]) for s in range(S) for a in range(A)]
        found = [(row, int(s2), p, r, bool(done)) for row, cell in cells for p, s2, r, done in cell if p > 0]
    except (KeyError, IndexError) as error:
        raise ModelError(f"env.P must list the same {A} actions in each of the states 0..{S - 1}; {error}") from error
    row, after, p, r, done = (np.array(column) for column in zip(*found, strict=True))
    return row, after, p.astype(float), r.astype(float), done


def _alive(start: np.ndarray, ends: np.ndarray, state: np.ndarray, after: np.ndarray, done: np.ndarray) -> np.ndarray:
    """States where an episode can be without having ended: starts, and what unfinished transitions enter from such states.

    States that end no episode count as alive sources, so that every state of the table can be asked about.
    """
    alive = start.copy()
    while True:
        source = alive | ~ends
        grown = alive.copy()
        grown[after[~done & source[state]]] = True
        if (grown == alive).all():
            return alive
        alive = grown


def _mixed_rewards(row: np.ndarray, after: np.ndarray, r: np.ndarray) -> int:
    """Number of (s, a, s') that occur with more than one reward."""
    distinct = np.unique(np.column_stack([row, after, r]), axis=0)
    return int((np.unique(distinct[:, :2], axis=0, return_counts=True)[1] > 1).sum())


def _count_moving(absorbing: np.ndarray, row: np.ndarray, after: np.ndarray, r: np.ndarray, A: int) -> int:
    moves = absorbing[row // A] & ((after != row // A) | (r != 0))
    return len(set((row // A)[moves].tolist()))


def _divided(paid: sp.csr_matrix, P: sp.csr_matrix) -> sp.csr_matrix:
    """Mean reward of each transition: probability-weighted rewards over probabilities, entry by entry."""
    inverse = P.copy()
    inverse.eliminate_zeros()
    inverse.data = 1.0 / inverse.data
    out = sp.csr_matrix(paid.multiply(inverse))
    out.eliminate_zeros()
    return out


def _layout(env: Any) -> GridLayout | None:
    kind = type(env).__name__
    if kind == "FrozenLakeEnv":
        return GridLayout(int(env.nrow), int(env.ncol), ("←", "↓", "→", "↑"))
    if kind == "CliffWalkingEnv":
        rows, columns = env.shape
        return GridLayout(int(rows), int(columns), ("↑", "→", "↓", "←"))
    return None


def _latest(name: str) -> str:
    """The id of the newest version that the installed Gymnasium knows: it retires old ones."""
    registry = require("gymnasium", "envs").registry
    versions = [spec.version for spec in registry.values() if spec.name == name and spec.namespace is None]
    return f"{name}-v{max(versions)}"


def frozenlake(*, gamma: float = 0.99, horizon: int | None = None, size: int = 4, slippery: bool = True) -> TabularMDP:
    """Gymnasium's FrozenLake, 4 x 4 or 8 x 8.

    Known answer for ``slippery=False``: the shortest path takes 6 steps (14 on 8 x 8), ``J* = gamma^5`` (``gamma^13``).
    """
    if size not in (4, 8):
        raise ModelError(f"frozenlake(size = {size}); Gymnasium ships maps of size 4 and 8")
    return from_gymnasium(
        _latest("FrozenLake"), gamma=gamma, horizon=horizon, map_name=f"{size}x{size}", is_slippery=slippery
    )


def taxi(*, gamma: float = 0.99, horizon: int | None = None) -> TabularMDP:
    """Gymnasium's Taxi: 500 states and one extra absorbing state where episodes end.

    Known answer: every optimal trip takes at most 18 steps; a trip of n steps is worth
    ``-(1 - gamma^(n-1)) / (1 - gamma) + 20 gamma^(n-1)``.
    """
    return from_gymnasium(_latest("Taxi"), gamma=gamma, horizon=horizon)


def cliffwalking(*, gamma: float = 0.99, horizon: int | None = None, slippery: bool = False) -> TabularMDP:
    """Gymnasium's CliffWalking (4 x 12).

    Known answer for ``slippery=False``: 13 steps along the cliff, ``J* = -(1 - gamma^13) / (1 - gamma)``.
    """
    return from_gymnasium(_latest("CliffWalking"), gamma=gamma, horizon=horizon, is_slippery=slippery)
