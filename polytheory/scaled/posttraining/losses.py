"""Policy losses of tokens and sequences in torch; autograd reaches the current log-probs.

``ratio`` is the current over the old policy. Log ratios are clamped to [-20, 20] (beyond that exp would lose all meaning
and the gradient is 0). A loss multiplies the advantage by the column ``sampler_weights`` where a correction wrote one.
Advantages are cast to the dtype of the log-probs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from polytheory._typing import Bool, Float
from polytheory.errors import ColumnError, SettingError
from polytheory.parts import Kind, Unit, need
from polytheory.rollouts import MAX_LOG_RATIO
from polytheory.scaled.posttraining.base import PARTS

Columns = dict[str, Any]


def clipped_surrogate(
    ratio: Any, advantage: Any, eps_low: Any, eps_high: Any, clip: Callable[..., Any], smaller: Callable[..., Any]
) -> Any:
    """``min(ratio A, clip(ratio, 1 - eps_low, 1 + eps_high) A)``, to be maximised; operators only."""
    return smaller(ratio * advantage, clip(ratio, 1 - eps_low, 1 + eps_high) * advantage)


@PARTS.part(
    Kind.LOSS, reads=("mask", "advantages", "log_probs"), now=("log_probs",), unit=Unit.TOKEN, source="williams1992"
)
def reinforce(columns: Columns) -> Float[torch.Tensor, "n t"]:
    """``-A log pi`` of every token; advantages [n] or [n, t]."""
    mask, now = need(columns, "mask", "log_probs")
    return -token_signal(columns) * torch.where(mask, now, torch.zeros_like(now))


@PARTS.part(
    Kind.LOSS, reads=("mask", "advantages", "log_probs", "log_probs_old"), now=("log_probs",), unit=Unit.TOKEN,
    source="schulman2017, eq. 7; ye2020 (dual clip); yu2025 (clip-higher)",
)  # fmt: skip
def ppo_clip(
    columns: Columns, *, eps_low: float = 0.2, eps_high: float = 0.2, dual: float | None = None
) -> Float[torch.Tensor, "n t"]:
    """``-min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A)`` of every token; settings and errors as in the reference."""
    check_clip(eps_low, eps_high, dual)
    a, ratio = token_signal(columns), token_ratio(columns, "log_probs_old")
    value = -clipped_surrogate(ratio, a, eps_low, eps_high, torch.clamp, torch.minimum)
    if dual is not None:
        value = torch.where(a < 0, torch.minimum(value, -dual * a), value)
    return value


@PARTS.part(
    Kind.LOSS, reads=("mask", "advantages", "log_probs", "log_probs_old"), now=("log_probs",), unit=Unit.SEQUENCE,
    source="zheng2025, eq. 5 and 7",
)  # fmt: skip
def gspo(columns: Columns, *, eps_low: float = 3e-4, eps_high: float = 4e-4) -> Float[torch.Tensor, " n"]:
    """``-min(s A, clip(s) A)`` of every sequence, with the geometric mean ``s`` of its token ratios; advantages [n].

    Settings and errors as in the reference.
    """
    check_clip(eps_low, eps_high, None)
    (mask,) = need(columns, "mask")
    gap = token_log_ratio(columns, "log_probs_old").sum(1)
    gap = gap / sequence_lengths(mask).to(gap.dtype)
    ratio = bounded_exp(gap)
    return -clipped_surrogate(ratio, sequence_signal(columns), eps_low, eps_high, torch.clamp, torch.minimum)


@PARTS.part(
    Kind.LOSS, reads=("mask", "advantages", "log_probs", "log_probs_old"), now=("log_probs",), unit=Unit.TOKEN,
    source="minimax2025, eq. 4",
)  # fmt: skip
def cispo(columns: Columns, *, ratio_low: float = 0.0, ratio_high: float = 5.0) -> Float[torch.Tensor, "n t"]:
    """``-stopgrad(clip(rho, ratio_low, ratio_high)) A log pi`` of every token: clipped weights, never a dropped token.

    Settings and errors as in the reference.
    """
    if not 0 <= ratio_low < ratio_high:
        raise SettingError(f"ratio_low = {ratio_low}, ratio_high = {ratio_high}; need 0 <= ratio_low < ratio_high")
    mask, now = need(columns, "mask", "log_probs")
    weight = token_ratio(columns, "log_probs_old").detach().clamp(ratio_low, ratio_high)
    return -weight * token_signal(columns) * torch.where(mask, now, torch.zeros_like(now))


def token_signal(columns: Columns) -> Float[torch.Tensor, "n t"]:
    """Advantages of tokens, times the sampler's correction where there is one; 0 where masked."""
    mask, a, now = need(columns, "mask", "advantages", "log_probs")
    a = over_tokens(a.detach().to(now.dtype), mask)
    correction = columns.get("sampler_weights")
    return a if correction is None else a * over_tokens(correction.detach().to(now.dtype), mask)


def sequence_signal(columns: Columns) -> Float[torch.Tensor, " n"]:
    """Advantages of sequences, times the correction. Raises `ColumnError` where one of them is of tokens."""
    a, now = need(columns, "advantages", "log_probs")
    correction = columns.get("sampler_weights")
    for name, x in (("advantages", a), ("sampler_weights", correction)):
        if x is not None and x.ndim != 1:
            raise ColumnError(f"{name} are {list(x.shape)}; a loss of sequences needs one number per row, [{len(x)}]")
    return a.detach().to(now.dtype) if correction is None else (a * correction).detach().to(now.dtype)


def over_tokens(x: Float[torch.Tensor, "..."], mask: Bool[torch.Tensor, "n t"]) -> Float[torch.Tensor, "n t"]:
    """A column [n] or [n, t] as [n, t], 0 where masked."""
    return torch.where(mask, x[:, None] if x.ndim == 1 else x, torch.zeros((), dtype=x.dtype, device=x.device))


def token_log_ratio(columns: Columns, to: str) -> Float[torch.Tensor, "n t"]:
    """Current log-probs less those of the column ``to``, in float32 at least; 0 where masked."""
    mask, now, other = need(columns, "mask", "log_probs", to)
    # a ratio near 1 and a sum over tokens need more digits than bfloat16 has
    dtype = torch.promote_types(torch.promote_types(now.dtype, other.dtype), torch.float32)
    return over_tokens(now.to(dtype), mask) - over_tokens(other.detach().to(dtype), mask)


def token_ratio(columns: Columns, to: str) -> Float[torch.Tensor, "n t"]:
    """Ratio of every token."""
    return bounded_exp(token_log_ratio(columns, to))


def bounded_exp(gap: Float[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n"]:
    """``exp`` of log ratios clamped to [-20, 20]."""
    return gap.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def sequence_lengths(mask: Bool[torch.Tensor, "n t"]) -> Float[torch.Tensor, " n"]:
    """Trained tokens of every row. Raises `ColumnError` for a row without."""
    lengths = mask.sum(1).double()
    if not bool((lengths > 0).all()):
        raise ColumnError(f"row {int(lengths.argmin())} has no trained token; drop it before the loss")
    return lengths


def check_clip(eps_low: float, eps_high: float, dual: float | None) -> None:
    """Raise `SettingError` unless both widths are >= 0 and ``dual`` is None or above 1."""
    if not (eps_low >= 0 and eps_high >= 0) or (dual is not None and not dual > 1):
        raise SettingError(
            f"eps_low = {eps_low}, eps_high = {eps_high}, dual = {dual}; widths are >= 0 and dual is None or > 1"
        )
