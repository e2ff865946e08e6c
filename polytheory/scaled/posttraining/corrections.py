"""Importance weights, in torch, between the sampler that generated and the trainer that thinks it did.

Kernels and precision differ, so that the sampler's log-probs are not quite those of the old policy. Both parts write
``sampler_weights``, constants by which every policy loss multiplies the advantage. Untruncated sequence weights make any
expectation under the sampler one under the old policy; token weights ignore prefix and suffix and are biased in general.
"""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.rollouts import MAX_LOG_RATIO
from polytheory.scaled.posttraining.base import PARTS
from polytheory.scaled.posttraining.losses import over_tokens

Columns = dict[str, Any]
UNITS = ("token", "sequence")


@PARTS.part(
    Kind.SCORE, reads=("mask", "log_probs_old", "log_probs_sampler"), writes=("sampler_weights",), unit=Unit.TOKEN,
    source="yao2025 (truncated importance sampling)",
)  # fmt: skip
def truncated_is(columns: Columns, *, cap: float = 2.0, unit: str = "token") -> Columns:
    """Weights ``min(w, cap)``, ``w = old / sampler`` of the token [n, t] or of the sequence [n].

    Args:
        cap: largest weight, > 0; infinity truncates nothing (up to exp(20)). verl 2, TRL 3.
        unit: "token" or "sequence" (the product over trained tokens).

    Raises `SettingError`, `UnknownNameError`.
    """
    _check(cap, 0.0, unit)
    return {**columns, "sampler_weights": mismatch(columns, unit).clamp(max=cap)}


@PARTS.part(
    Kind.SCORE, reads=("mask", "log_probs_old", "log_probs_sampler"), writes=("sampler_weights",), unit=Unit.TOKEN,
    source="ling2025 (IcePop: masked importance sampling)",
)  # fmt: skip
def masked_is(columns: Columns, *, cap: float = 2.0, floor: float = 0.0, unit: str = "token") -> Columns:
    """Weights ``w`` inside ``[floor, cap]`` and 0 outside; further as `truncated_is`. ``0 <= floor < cap``."""
    _check(cap, floor, unit)
    w = mismatch(columns, unit)
    return {**columns, "sampler_weights": torch.where((w >= floor) & (w <= cap), w, torch.zeros_like(w))}


def mismatch(columns: Columns, unit: str) -> Float[torch.Tensor, "..."]:
    """``exp(log old - log sampler)`` of tokens [n, t] (1 where masked) or sequences [n]; exponents clamped to [-20, 20]."""
    mask, old, sampler = need(columns, "mask", "log_probs_old", "log_probs_sampler")
    dtype = torch.promote_types(torch.promote_types(old.dtype, sampler.dtype), torch.float32)
    gap = (over_tokens(old.to(dtype), mask) - over_tokens(sampler.to(dtype), mask)).detach()
    gap = gap.sum(1) if unit == "sequence" else gap
    return gap.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def _check(cap: float, floor: float, unit: str) -> None:
    if unit not in UNITS:
        raise UnknownNameError("unit of weights", unit, UNITS)
    if not 0 <= floor < cap:
        raise SettingError(f"floor = {floor}, cap = {cap}; need 0 <= floor < cap")
