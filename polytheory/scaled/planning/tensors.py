"""A known model, or many of one shape, as tensors with what the rounding analysis needs to know."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp
import torch

from polytheory._typing import Float, Int
from polytheory.errors import DiscountError, ModelError, SettingError
from polytheory.models.tabular import TabularMDP
from polytheory.scaled.planning.bellman import UNIT, Rows


@dataclass(frozen=True, eq=False)
class Tensors:
    """Fields: ``P``, ``r`` one entry per stage (one for stationary models); ``P`` [S, A, S], [n, S, A, S], or sparse CSR
    (S*A, S); ``r`` [S, A] or [n, S, A]; ``gamma`` a number or [n]; ``terms``, ``row_gap``, ``reward`` as in the
    reference's `Facts`, the last one per replica for many models; ``unit`` roundoff of the dtype.
    """

    P: tuple[Any, ...]
    r: tuple[Float[torch.Tensor, "*n S A"], ...]
    gamma: Any
    terms: int
    row_gap: float
    reward: Any
    unit: float
    rows: Rows | None = None

    def stage(self, h: int) -> tuple[Any, Float[torch.Tensor, "*n S A"]]:
        """Transitions and rewards of a stage."""
        return self.P[h if len(self.P) > 1 else 0], self.r[h if len(self.r) > 1 else 0]


_CACHE: WeakKeyDictionary[Any, dict[torch.dtype, Tensors]] = WeakKeyDictionary()


def tensors(access: Any, dtype: torch.dtype) -> Tensors:
    """The tensors behind an access that grants MODEL, made once per access and dtype.

    Raises `SettingError` when torch may round float32 products to fewer bits, which no bound here covers.
    """
    if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        raise SettingError(
            f"float32 products at precision {torch.get_float32_matmul_precision()!r} cannot be certified; "
            'call torch.set_float32_matmul_precision("highest") or use dtype="float64"'
        )
    known = _CACHE.setdefault(access, {})
    if dtype not in known:
        models = getattr(access, "models", None)
        known[dtype] = (
            _single(access.model, dtype, access.device) if models is None else _many(models, dtype, access.device)
        )
    return known[dtype]


def _single(model: TabularMDP, dtype: torch.dtype, device: torch.device) -> Tensors:
    stages = range(model.horizon or 1) if model.is_staged else (0,)
    P = tuple(tensor_of(model.P_at(h), dtype, device, model.A) for h in stages)
    r = tuple(torch.tensor(model.r_at(h), dtype=dtype, device=device) for h in stages)
    terms, gap, reward = model_facts(model, UNIT[dtype])
    rows = _padded(model, dtype, device) if model.is_sparse and not model.is_staged else None
    return Tensors(P, r, model.gamma, terms, gap, reward, UNIT[dtype], rows)


def _many(models: tuple[TabularMDP, ...], dtype: torch.dtype, device: torch.device) -> Tensors:
    stages = range(models[0].horizon or 1) if any(m.is_staged for m in models) else (0,)
    P, r = [], []
    for h in stages:
        P.append(torch.stack([torch.tensor(_dense(m, h), dtype=dtype, device=device) for m in models]))
        r.append(
            torch.stack([torch.tensor(m.r_at(h if m.is_staged else 0), dtype=dtype, device=device) for m in models])
        )
    facts = [model_facts(m, UNIT[dtype]) for m in models]
    return Tensors(
        tuple(P),
        tuple(r),
        torch.tensor([m.gamma for m in models], dtype=torch.float64, device=device),
        max(f[0] for f in facts),
        max(f[1] for f in facts),
        torch.tensor([f[2] for f in facts], dtype=dtype, device=device),
        UNIT[dtype],
    )


def tensor_of(P: Any, dtype: torch.dtype, device: torch.device, n_actions: int) -> torch.Tensor:
    """Transitions of one stage as a dense tensor [S, A, S] or a sparse CSR tensor (S*A, S)."""
    if not sp.issparse(P):
        return torch.tensor(P, dtype=dtype, device=device)
    parts = (torch.tensor(P.indptr.astype(np.int64)), torch.tensor(P.indices.astype(np.int64)), torch.tensor(P.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch announces that its CSR support is in beta
        return torch.sparse_csr_tensor(*parts, size=P.shape, dtype=dtype, device=device)


def restrict(
    P: Any, r: Float[torch.Tensor, "*n S A"], actions: Int[torch.Tensor, "*n S"], rows: Rows | None = None
) -> tuple[Any, Float[torch.Tensor, "*n S"]]:
    """Transitions and rewards of one deterministic policy per replica: dense ``[n, S, S]``, or `Rows` for sparse ``P``."""
    S, A = r.shape[-2:]
    chosen = torch.gather(r.expand(*actions.shape[:-1], S, A), -1, actions.unsqueeze(-1)).squeeze(-1)
    if rows is not None:
        pair = torch.arange(S, device=actions.device) * A + actions
        return Rows(rows.index[pair], rows.prob[pair]), chosen
    wide = P.expand(*actions.shape[:-1], S, A, S)
    index = actions[..., None, None].expand(*actions.shape, 1, S)
    return torch.gather(wide, -2, index).squeeze(-2), chosen


def _padded(model: TabularMDP, dtype: torch.dtype, device: torch.device) -> Rows:
    """Successors of every state-action pair, padded with probability 0: ``[S*A, K]`` each."""
    P = model.P_at()
    counts = np.diff(P.indptr)
    K = int(counts.max())
    slot = np.arange(P.nnz) - np.repeat(P.indptr[:-1], counts)
    row = np.repeat(np.arange(P.shape[0]), counts)
    index, prob = np.zeros((P.shape[0], K), dtype=np.int64), np.zeros((P.shape[0], K))
    index[row, slot], prob[row, slot] = P.indices, P.data
    return Rows(torch.tensor(index, device=device), torch.tensor(prob, dtype=dtype, device=device))


def model_facts(model: TabularMDP, unit: float) -> tuple[int, float, float]:
    """Successors of the longest row; how far a row may be from 1, rounding of storage and sum included; largest |r|."""
    terms, gap = 1, 0.0
    for h in range(model.horizon or 1) if model.is_staged else (0,):
        P: Any = model.P_at(h)
        counts = np.diff(P.indptr) if sp.issparse(P) else np.count_nonzero(P, axis=-1)
        terms = max(terms, int(np.max(counts)))
        gap = max(gap, float(np.max(np.abs(np.asarray(P.sum(axis=-1)) - 1))))
    gap += (terms + 1) * 2.0**-53 + (unit if unit > 2.0**-53 else 0.0)
    if model.horizon is None and model.gamma * (1 + gap) >= 1:
        raise DiscountError(
            f"gamma = {model.gamma} with rows of P that sum to 1 only up to {gap:.1e} is no contraction in this "
            "precision; use float64, divide each row by its sum, or lower gamma"
        )
    stages = range(model.horizon or 1) if model.is_staged else (0,)
    # numbers stored in fewer bits: P and gamma perturb every product by a unit each, r by one
    terms += 3 if unit > 2.0**-53 else 0
    return terms, gap, max(float(np.max(np.abs(model.r_at(h)))) for h in stages)


def _dense(model: TabularMDP, h: int) -> Float[np.ndarray, "S A S"]:
    P = model.P_at(h if model.is_staged else 0)
    return np.asarray(P.toarray() if sp.issparse(P) else P).reshape(model.S, model.A, model.S)


def same_shape(models: tuple[TabularMDP, ...]) -> None:
    """Raise `ModelError` unless the models share S, A and the horizon."""
    shapes = {(m.S, m.A, m.horizon) for m in models}
    if len(shapes) != 1:
        raise ModelError(f"a batch of models needs one (S, A, horizon); got {sorted(shapes, key=str)[:3]}")
