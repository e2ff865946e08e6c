"""Arrays that cannot change: copies, read-only, dense or CSR."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from polytheory._typing import Float
from polytheory.errors import ShapeError


def by_stage(r: Float[np.ndarray, "*H S A"], horizon: int | None) -> Float[np.ndarray, "..."]:
    """Stage-dependent rewards as `TabularMDP` takes them: ``[H, S, A, S]`` where ``[H, S, A]`` could be misread."""
    return r[..., None].repeat(r.shape[-2], axis=-1) if r.ndim == 3 and r.shape == (horizon,) * 3 else r


def _readonly(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


def frozen(x, dtype) -> np.ndarray:
    """A read-only array of the dtype: the same object when it is one already, else a copy."""
    if isinstance(x, np.ndarray) and x.dtype == dtype and not x.flags.writeable:
        return x
    try:
        return _readonly(np.array(x, dtype=dtype))
    except (ValueError, TypeError) as error:
        raise ShapeError(f"expected a rectangular array of numbers; {error}") from error


def frozen_tree(x: Any) -> Any:
    """The same for CSR matrices and tuples of them."""
    if isinstance(x, tuple) and x and all(sp.issparse(m) for m in x):
        return tuple(_frozen_csr(m) for m in x)
    return _frozen_csr(x) if sp.issparse(x) else frozen(x, float)


def _frozen_csr(m) -> sp.csr_matrix:
    parts = (m.data, m.indices, m.indptr) if m.format == "csr" else ()
    if parts and m.dtype == np.float64 and not any(p.flags.writeable for p in parts):
        return m
    csr = sp.csr_matrix(m, dtype=float, copy=True)
    csr.sum_duplicates()
    for part in (csr.data, csr.indices, csr.indptr):
        part.flags.writeable = False
    return csr
