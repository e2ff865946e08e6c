"""The padded successor table: what both rooms sample from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from polytheory._typing import Float, Int

if TYPE_CHECKING:
    from polytheory.models.tabular import TabularMDP


@dataclass(frozen=True, eq=False)
class SuccessorTable:
    """Padded successors of every state-action pair: what both rooms sample from.

    Fields, with a leading stage axis when the model is staged: ``next_state`` [S, A, K] int64; ``cdf`` [S, A, K],
    cumulative probabilities whose last true successor and padding hold exactly 1; ``reward`` [S, A, K] of the
    transition. Sampling: k = number of entries of ``cdf[s, a]`` that are <= u.
    """

    next_state: Int[np.ndarray, "*H S A K"]
    cdf: Float[np.ndarray, "*H S A K"]
    reward: Float[np.ndarray, "*H S A K"]


def successor_table(mdp: TabularMDP) -> SuccessorTable:
    """Build the table; staged models get a leading axis of ``horizon`` stages."""
    if not mdp.is_staged:
        parts = list(_at_stage(mdp, 0))
    else:
        stages = [_at_stage(mdp, h) for h in range(mdp.horizon or 1)]
        K = max(x[0].shape[-1] for x in stages)
        padded = [[_pad_last(x, K) for x in stage] for stage in stages]
        parts = [np.stack([stage[i] for stage in padded]) for i in range(3)]
    for x in parts:
        x.flags.writeable = False
    return SuccessorTable(*parts)


def _at_stage(mdp: TabularMDP, h: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    P, rows = mdp.P_at(h), mdp.S * mdp.A
    csr = P if sp.issparse(P) else sp.csr_matrix(np.asarray(P).reshape(rows, mdp.S))
    positive = csr.data > 0
    row_of = np.repeat(np.arange(rows), np.diff(csr.indptr))[positive]
    column, p = csr.indices[positive].astype(np.int64), csr.data[positive]
    counts = np.bincount(row_of, minlength=rows)
    K = int(counts.max())
    slot = np.arange(row_of.size) - np.repeat(np.cumsum(counts) - counts, counts)
    last = counts[:, None] - 1
    next_state, prob = np.zeros((rows, K), dtype=np.int64), np.zeros((rows, K))
    next_state[row_of, slot] = column
    prob[row_of, slot] = p
    past = np.arange(K)[None, :] >= last  # from the last true successor on
    next_state = np.where(past, np.take_along_axis(next_state, last, axis=1), next_state)
    cdf = np.where(past, 1.0, np.cumsum(prob, axis=1))
    r = mdp.r[h] if mdp._r_staged else mdp.r
    pair = np.arange(rows)[:, None]
    if sp.issparse(r):
        reward = np.asarray(r[pair, next_state].todense())
    elif r.ndim == 3:
        reward = r.reshape(rows, mdp.S)[pair, next_state]
    else:
        reward = np.repeat(r.reshape(rows, 1), K, axis=1)
    shape = (mdp.S, mdp.A, K)
    return next_state.reshape(shape), cdf.reshape(shape), np.array(reward, dtype=float).reshape(shape)


def _pad_last(x: np.ndarray, K: int) -> np.ndarray:
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, K - x.shape[-1])], mode="edge")
