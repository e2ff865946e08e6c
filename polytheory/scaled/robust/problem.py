"""A robust planning problem as tensors: rows of outcomes that nature weighs, dense or padded successors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp
import torch

from polytheory._typing import Bool, Float, Int
from polytheory.errors import SettingError
from polytheory.models.tabular import TabularMDP

LARGEST = 2**28  # entries of [S, A, S] that are held dense


@dataclass(frozen=True, eq=False)
class Problem:
    """One stage of a model.

    Fields:
        p: [S, A, K] nominal laws over K outcomes: all S states, or the padded successors of a sparse model (padding has p = 0).
        index: [S, A, K] the state of each outcome; None where outcome k is state k.
        fixed: [S, A] rewards that do not depend on the next state. paid: [S, A, K] those that do, or None.
        terminal: [S]. gamma: discount.
    """

    p: Float[torch.Tensor, "S A K"]
    index: Int[torch.Tensor, "S A K"] | None
    fixed: Float[torch.Tensor, "S A"]
    paid: Float[torch.Tensor, "S A K"] | None
    terminal: Bool[torch.Tensor, " S"]
    gamma: float

    def outcomes(self, v: Float[torch.Tensor, "n S"]) -> Float[torch.Tensor, "n S A K"]:
        """What nature minimises: the discounted next value, and rewards that depend on it."""
        ahead = discounted_values(v, self.gamma)
        z = ahead[:, None, None, :].expand(-1, *self.p.shape) if self.index is None else ahead[:, self.index]
        return z if self.paid is None else z + self.paid


def discounted_values(v: Float[torch.Tensor, "*n S"], gamma: float) -> Float[torch.Tensor, "*n S"]:
    """``gamma v``: the discount of the family stands here."""
    return gamma * v


_CACHE: WeakKeyDictionary[TabularMDP, dict[Any, tuple[Problem, ...]]] = WeakKeyDictionary()


def problems(access: Any, dtype: torch.dtype) -> tuple[Problem, ...]:
    """The stages of the model behind an access that grants MODEL (one for a stationary model), made once."""
    model, device = access.model, access.device
    known = _CACHE.setdefault(model, {})
    if (dtype, device) not in known:
        stages = range(model.horizon or 1) if model.is_staged else (0,)
        known[dtype, device] = tuple(_problem(model, h, dtype, device) for h in stages)
    return known[dtype, device]


def _problem(model: TabularMDP, h: int, dtype: torch.dtype, device: Any) -> Problem:
    S, A = model.S, model.A
    P, r = model.P_at(h), model.r[h] if model._r_staged else model.r
    put = lambda x: torch.tensor(np.ascontiguousarray(x), dtype=dtype, device=device)  # noqa: E731
    nothing, ends = np.zeros((S, A)), torch.tensor(np.asarray(model.terminal), device=device)
    if not sp.issparse(P):
        dense = np.asarray(P)
        by_next = r.ndim == 3
        fixed = nothing if by_next else r
        return Problem(put(dense), None, put(fixed), put(r) if by_next else None, ends, model.gamma)
    index, prob, paid = padded(P, r if sp.issparse(r) else None)
    shape = (S, A, index.shape[1])
    places = torch.tensor(index, device=device).reshape(shape)
    by_next = None if paid is None else put(paid).reshape(shape)
    return Problem(
        put(prob).reshape(shape), places, put(nothing if paid is not None else r), by_next, ends, model.gamma
    )


def padded(P: Any, r: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Successors of every row of a CSR matrix, padded with probability 0: index, probability and, if given, reward."""
    counts = np.diff(P.indptr)
    K = max(int(counts.max()), 1)
    row, slot = np.repeat(np.arange(P.shape[0]), counts), np.arange(P.nnz) - np.repeat(P.indptr[:-1], counts)
    index, prob = np.zeros((P.shape[0], K), dtype=np.int64), np.zeros((P.shape[0], K))
    index[row, slot], prob[row, slot] = P.indices, P.data
    if r is None:
        return index, prob, None
    paid = np.zeros((P.shape[0], K))
    paid[row, slot] = np.asarray(r[row, P.indices]).ravel()
    return index, prob, paid


def dense(problem: Problem, why: str) -> Problem:
    """The problem with one outcome per state. Raises `SettingError` where that would not fit."""
    if problem.index is None:
        return problem
    S, A, _ = problem.p.shape
    if S * A * S > LARGEST:
        raise SettingError(
            f"{why} may reach every state, which needs [S, A, S] = {[S, A, S]} held dense; use another set"
        )
    p = torch.zeros(S, A, S, dtype=problem.p.dtype, device=problem.p.device).scatter_add(-1, problem.index, problem.p)
    if problem.paid is not None:
        raise SettingError(
            f"{why} may reach every state, and a sparse model pays only for its successors; make it dense"
        )
    return Problem(p, None, problem.fixed, None, problem.terminal, problem.gamma)
