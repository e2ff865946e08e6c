"""Sampled completions at the border: what they must contain, and the log-probability contract.

Everything behind the border may rely on it: masks are boolean, masked entries hold zeros, log-probs are finite, groups
are large enough for their baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Array, Bool, Float, Int
from polytheory.errors import ColumnError

MAX_LOG_RATIO = 20.0  # |log ratio| beyond this is a broken rollout, not a policy change: exp(20) = 4.9e8


@dataclass(frozen=True)
class LogProbs:
    """The log-probability contract: what the numbers in a log-prob column are.

    Fields:
        temperature: the softmax temperature of the law they belong to, > 0; ratios need the sampling temperature.
        processed: True when after temperature and truncation (top-k, top-p), False for raw logits at temperature 1.
        dtype: "float64", "float32" or "bfloat16" of the softmax that made them.
    """

    temperature: float = 1.0
    processed: bool = True
    dtype: str = "float32"

    def check_ratio(self, other: LogProbs) -> None:
        """Raise `ColumnError` unless a ratio of the two columns is a ratio of two laws of the same kind."""
        if (self.temperature, self.processed) != (other.temperature, other.processed) and not (
            self.temperature == other.temperature == 1.0
        ):
            raise ColumnError(
                f"log-probs at temperature {self.temperature} ({'processed' if self.processed else 'raw'}) and at "
                f"{other.temperature} ({'processed' if other.processed else 'raw'}) have no meaningful ratio; recompute one"
            )


@dataclass(frozen=True, eq=False)
class Rollouts:
    """n completions of at most t tokens with their scores.

    Fields:
        actions: [n, t] token ids, right-padded.
        mask: [n, t] True on tokens the policy sampled (EOS included), False on padding and on tool or environment tokens.
        score: [n] sequence reward.
        group: [n] prompt id; groups may have unequal sizes.
        log_probs_sampler: [n, t] natural log-probs reported by the sampler, under ``contract``.
        contract: what those log-probs are.
        columns: further frozen columns by name (``log_probs_old``, ``log_probs_ref``, ``values``...), [n] or [n, t].
    """

    actions: Int[Array, "n t"]
    mask: Bool[Array, "n t"]
    score: Float[Array, " n"]
    group: Int[Array, " n"]
    log_probs_sampler: Float[Array, "n t"] | None = None
    contract: LogProbs = LogProbs()
    columns: Mapping[str, Any] | None = None

    def checked(self, *, min_group: int = 1, allow_empty: bool = False) -> dict[str, Any]:
        """The columns behind the border: masked entries zeroed, everything validated.

        Args:
            min_group: smallest group that the method's baseline can use (2 for leave-one-out and standard deviations).
            allow_empty: allow completions without a single trained token (seq_mean divides by their length).

        Raises:
            ColumnError: shapes disagree; NaN or infinite score; NaN log-prob, also under the mask; an all-zero mask row;
                a group that is too small; a log ratio between sampler and old policy beyond 20.
        """
        n, t = self.actions.shape
        for name, x, shape in (("mask", self.mask, (n, t)), ("score", self.score, (n,)), ("group", self.group, (n,))):
            if tuple(x.shape) != shape:
                raise ColumnError(f"{name} must have shape {list(shape)} beside actions {[n, t]}; got {list(x.shape)}")
        mask, group = _numpy(self.mask).astype(bool), _numpy(self.group)
        bad = np.flatnonzero(~np.isfinite(_numpy(self.score)))
        if bad.size:
            raise ColumnError(f"score[{bad[0]}] = {_numpy(self.score)[bad[0]]}; every reward must be a finite number")
        empty = np.flatnonzero(~mask.any(axis=1))
        if empty.size and not allow_empty:
            raise ColumnError(f"row {empty[0]} has no trained token (its mask is all zero); drop it before the loss")
        ids, sizes = np.unique(group, return_counts=True)
        if (sizes < min_group).any():
            i = int(np.argmax(sizes < min_group))
            raise ColumnError(
                f"group {ids[i]} has {sizes[i]} completion(s), the baseline needs {min_group}; sample more or drop it"
            )
        frozen = {"log_probs_sampler": self.log_probs_sampler, **(self.columns or {})}
        out: dict[str, Any] = {"actions": self.actions, "mask": self.mask, "score": self.score, "group": self.group}
        for name, x in frozen.items():
            if x is None:
                continue
            if tuple(x.shape) not in ((n,), (n, t)):
                raise ColumnError(f"{name} must have shape [{n}] or {[n, t]}; got {list(x.shape)}")
            values = _numpy(x)
            if values.dtype.kind == "f" and np.isnan(values).any():
                where = [int(k) for k in np.argwhere(np.isnan(values))[0]]
                raise ColumnError(f"{name}{where} is NaN, also masked entries must hold numbers (NaN * 0 = NaN)")
            # where on the inputs, before any arithmetic: an infinity under the mask must not reach a product
            out[name] = _where(self.mask, x) if x.ndim == 2 else x
        if "log_probs_old" in out and "log_probs_sampler" in out:
            gap = np.abs(_numpy(out["log_probs_old"]) - _numpy(out["log_probs_sampler"]))
            if not (gap <= MAX_LOG_RATIO).all():
                where = [int(k) for k in np.argwhere(~(gap <= MAX_LOG_RATIO))[0]]
                raise ColumnError(
                    f"log_probs_old and log_probs_sampler differ by {gap[tuple(where)]:.3g} at {where}; more than "
                    f"{MAX_LOG_RATIO:g} means that they are not of the same tokens or temperature"
                )
        return out


def checked(columns: Mapping[str, Any], *, min_group: int = 1) -> dict[str, Any]:
    """The columns of a step behind the border; those that `Rollouts` does not know pass as they are. Errors as there."""
    known = ("actions", "mask", "score", "group")
    frozen = {k: x for k, x in columns.items() if k.startswith("log_probs_") and k != "log_probs_sampler"}
    rollouts = Rollouts(
        *(columns[k] for k in known), log_probs_sampler=columns.get("log_probs_sampler"), columns=frozen
    )  # fmt: skip
    return {**columns, **rollouts.checked(min_group=min_group)}


def _numpy(x: Any) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else x.detach().cpu().numpy()


def _where(mask: Any, x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return np.where(mask, x, 0)
    import torch

    return torch.where(mask, x, torch.zeros_like(x))
