"""Policy losses of tokens and sequences, each with its gradient in the current log-probs in closed form.

``ratio`` is the current over the old policy. Log ratios are clamped to [-20, 20] (beyond that exp would lose all meaning
and the gradient is 0). A loss multiplies the advantage by the column ``sampler_weights`` where a correction wrote one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from polytheory._typing import Bool, Float
from polytheory.errors import ColumnError, SettingError
from polytheory.parts import Kind, Unit, need
from polytheory.reference.posttraining.base import PARTS, Terms
from polytheory.rollouts import MAX_LOG_RATIO

Columns = dict[str, Any]


def clipped_surrogate(
    ratio: Any, advantage: Any, eps_low: Any, eps_high: Any, clip: Callable[..., Any], smaller: Callable[..., Any]
) -> Any:
    """``min(ratio A, clip(ratio, 1 - eps_low, 1 + eps_high) A)``, to be maximised; operators only."""
    return smaller(ratio * advantage, clip(ratio, 1 - eps_low, 1 + eps_high) * advantage)


@PARTS.part(
    Kind.LOSS, reads=("mask", "advantages", "log_probs"), now=("log_probs",), unit=Unit.TOKEN, source="williams1992"
)
def reinforce(columns: Columns) -> Terms:
    """``-A log pi`` of every token; advantages [n] or [n, t]."""
    mask, now = need(columns, "mask", "log_probs")
    a = token_signal(columns)
    return Terms(-a * np.where(mask, now, 0.0), lambda w: {"log_probs": -w * a})


@PARTS.part(
    Kind.LOSS, reads=("mask", "advantages", "log_probs", "log_probs_old"), now=("log_probs",), unit=Unit.TOKEN,
    source="schulman2017, eq. 7; ye2020 (dual clip); yu2025 (clip-higher)",
)  # fmt: skip
def ppo_clip(columns: Columns, *, eps_low: float = 0.2, eps_high: float = 0.2, dual: float | None = None) -> Terms:
    """``-min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A)`` of every token; advantages [n] or [n, t].

    Args:
        eps_low, eps_high: width of the clip below and above 1, >= 0; PPO 0.2 and 0.2, DAPO 0.2 and 0.28.
        dual: bound ``c > 1`` on the loss of bad tokens, ``-c A`` for A < 0 (verl 3.0); None for none.

    The gradient is 0 where (A > 0 and rho > 1 + eps_high), (A < 0 and rho < 1 - eps_low) or (A < 0 and rho > c), and
    ``-rho A`` elsewhere. Raises `SettingError`.
    """
    check_clip(eps_low, eps_high, dual)
    a, (ratio, inside) = token_signal(columns), token_ratio(columns, "log_probs_old")
    value = -clipped_surrogate(ratio, a, eps_low, eps_high, np.clip, np.minimum)
    moves = inside & np.where(a < 0, ratio >= 1 - eps_low, ratio <= 1 + eps_high)
    if dual is not None:
        value = np.where(a < 0, np.minimum(value, -dual * a), value)
        moves &= (a >= 0) | (ratio <= dual)
    return Terms(value, lambda w: {"log_probs": np.where(moves, -w * ratio * a, 0.0)})


@PARTS.part(
    Kind.LOSS, reads=("mask", "advantages", "log_probs", "log_probs_old"), now=("log_probs",), unit=Unit.SEQUENCE,
    source="zheng2025, eq. 5 and 7",
)  # fmt: skip
def gspo(columns: Columns, *, eps_low: float = 3e-4, eps_high: float = 4e-4) -> Terms:
    """``-min(s A, clip(s) A)`` of every sequence, with the geometric mean ``s`` of its token ratios; advantages [n].

    Widths as in `ppo_clip`; the paper's are 3e-4 and 4e-4. The gradient of every token is ``-s A / |y|`` where the clip
    is not active. Raises `SettingError`, and `ColumnError` for advantages of tokens or a row without tokens.
    """
    check_clip(eps_low, eps_high, None)
    (mask,) = need(columns, "mask")
    a, lengths = sequence_signal(columns), sequence_lengths(mask)
    gap = token_log_ratio(columns, "log_probs_old").sum(axis=1) / lengths
    ratio, inside = bounded_exp(gap)
    value = -clipped_surrogate(ratio, a, eps_low, eps_high, np.clip, np.minimum)
    moves = inside & np.where(a < 0, ratio >= 1 - eps_low, ratio <= 1 + eps_high)
    slope = np.where(moves, -ratio * a / lengths, 0.0)
    return Terms(value, lambda w: {"log_probs": np.where(mask, (w * slope)[:, None], 0.0)})


@PARTS.part(
    Kind.LOSS, reads=("mask", "advantages", "log_probs", "log_probs_old"), now=("log_probs",), unit=Unit.TOKEN,
    source="minimax2025, eq. 4",
)  # fmt: skip
def cispo(columns: Columns, *, ratio_low: float = 0.0, ratio_high: float = 5.0) -> Terms:
    """``-stopgrad(clip(rho, ratio_low, ratio_high)) A log pi`` of every token: clipped weights, never a dropped token.

    The bounds are of the ratio itself, ``0 <= ratio_low < ratio_high``: 0 and 5 is TRL's ``epsilon_high = 5``; verl's
    ``[1 - e_l, 1 + e_h]`` are given as such. Raises `SettingError`.
    """
    if not 0 <= ratio_low < ratio_high:
        raise SettingError(f"ratio_low = {ratio_low}, ratio_high = {ratio_high}; need 0 <= ratio_low < ratio_high")
    mask, now = need(columns, "mask", "log_probs")
    a, (ratio, _) = token_signal(columns), token_ratio(columns, "log_probs_old")
    slope = -np.clip(ratio, ratio_low, ratio_high) * a
    return Terms(slope * np.where(mask, now, 0.0), lambda w: {"log_probs": w * slope})


def token_signal(columns: Columns) -> Float[np.ndarray, "n t"]:
    """Advantages of tokens, times the sampler's correction where there is one; 0 where masked."""
    mask, a = need(columns, "mask", "advantages")
    a = over_tokens(np.asarray(a, dtype=float), mask)
    correction = columns.get("sampler_weights")
    return a if correction is None else a * over_tokens(correction, mask)


def sequence_signal(columns: Columns) -> Float[np.ndarray, " n"]:
    """Advantages of sequences, times the correction. Raises `ColumnError` where one of them is of tokens."""
    (a,) = need(columns, "advantages")
    correction = columns.get("sampler_weights")
    for name, x in (("advantages", a), ("sampler_weights", correction)):
        if x is not None and x.ndim != 1:
            raise ColumnError(f"{name} are {list(x.shape)}; a loss of sequences needs one number per row, [{len(x)}]")
    return np.asarray(a, dtype=float) if correction is None else np.asarray(a, dtype=float) * correction


def over_tokens(x: Float[np.ndarray, "..."], mask: Bool[np.ndarray, "n t"]) -> Float[np.ndarray, "n t"]:
    """A column [n] or [n, t] as [n, t], 0 where masked."""
    return np.where(mask, x[:, None] if x.ndim == 1 else x, 0.0)


def token_log_ratio(columns: Columns, to: str) -> Float[np.ndarray, "n t"]:
    """Current log-probs less those of the column ``to``; 0 where masked."""
    mask, now, other = need(columns, "mask", "log_probs", to)
    return np.where(mask, now, 0.0) - np.where(mask, other, 0.0)


def token_ratio(columns: Columns, to: str) -> tuple[Float[np.ndarray, "n t"], Bool[np.ndarray, "n t"]]:
    """Ratio of every token, and where its log ratio is inside the clamp."""
    return bounded_exp(token_log_ratio(columns, to))


def bounded_exp(gap: Float[np.ndarray, "*n"]) -> tuple[Float[np.ndarray, "*n"], Bool[np.ndarray, "*n"]]:
    """``exp`` of log ratios clamped to [-20, 20], and where the clamp was not needed."""
    return np.exp(np.clip(gap, -MAX_LOG_RATIO, MAX_LOG_RATIO)), np.abs(gap) <= MAX_LOG_RATIO


def sequence_lengths(mask: Bool[np.ndarray, "n t"]) -> Float[np.ndarray, " n"]:
    """Trained tokens of every row. Raises `ColumnError` for a row without."""
    lengths = mask.sum(axis=1).astype(float)
    if not (lengths > 0).all():
        raise ColumnError(f"row {int(np.argmin(lengths))} has no trained token; drop it before the loss")
    return lengths


def check_clip(eps_low: float, eps_high: float, dual: float | None) -> None:
    """Raise `SettingError` unless both widths are >= 0 and ``dual`` is None or above 1."""
    if not (eps_low >= 0 and eps_high >= 0) or (dual is not None and not dual > 1):
        raise SettingError(
            f"eps_low = {eps_low}, eps_high = {eps_high}, dual = {dual}; widths are >= 0 and dual is None or > 1"
        )
