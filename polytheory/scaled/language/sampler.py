"""Batched sampling with a key-value cache, one stream of random numbers per row.

A prompt is read once per group of completions. Token t of a row is drawn by inverse CDF from uniform t of that row, so that
a completion does not depend on the rows beside it (up to rounding in batched arithmetic) and a resumed run needs no
generator state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from polytheory._typing import Bool, Float, Int
from polytheory.access.batched import inverse_cdf
from polytheory.errors import SettingError


@dataclass(frozen=True, eq=False)
class Completions:
    """n sampled completions: ``actions`` [n, t] token ids, 0 where masked; ``mask`` [n, t] True up to and with the
    end-of-text token; ``log_probs`` [n, t] float64 at the sampling temperature, 0 where masked; ``finished`` [n] True
    where the model ended the text itself."""

    actions: Int[torch.Tensor, "n t"]
    mask: Bool[torch.Tensor, "n t"]
    log_probs: Float[torch.Tensor, "n t"]
    finished: Bool[torch.Tensor, " n"]


@torch.no_grad()
def sample(
    model: Any,
    prompts: Int[torch.Tensor, "m p"],
    prompt_mask: Bool[torch.Tensor, "m p"],
    uniforms: Float[torch.Tensor, "n t"],
    *,
    eos: int | Sequence[int],
    temperature: float = 1.0,
) -> Completions:
    """Complete every prompt n / m times; rows of a prompt stand together.

    Args:
        model: a transformers causal model; used in evaluation mode.
        prompts: token ids, padded on the left. prompt_mask: False on padding.
        uniforms: in [0, 1), one per token of every completion; t bounds the length.
        eos: the token, or tokens, that end a completion.
        temperature: > 0 divides the logits; 0 takes the likeliest token (log-probs are then those of temperature 1).

    Raises `SettingError` for a negative temperature or when n is not a multiple of m.
    """
    (m, _), (n, longest) = prompts.shape, uniforms.shape
    if temperature < 0:
        raise SettingError(f"temperature = {temperature}; take a positive one, or 0 for the likeliest token")
    if m < 1 or n % m:
        raise SettingError(f"{n} rows of random numbers for {m} prompts; every prompt needs the same number of rows")
    training = model.training
    model.eval()
    attention = prompt_mask.repeat_interleave(n // m, 0)
    position = prompt_mask.long().sum(1).repeat_interleave(n // m)
    out = model(
        input_ids=prompts, attention_mask=prompt_mask.long(), position_ids=positions(prompt_mask), use_cache=True,
        logits_to_keep=1,
    )  # fmt: skip
    cache, logits = out.past_key_values, out.logits[:, -1].repeat_interleave(n // m, 0)
    if n > m:
        cache.batch_repeat_interleave(n // m)
    ends = torch.tensor([eos] if isinstance(eos, int) else list(eos), device=prompts.device)
    alive = torch.ones(n, dtype=torch.bool, device=prompts.device)
    tokens, masks, log_probs = [], [], []
    for t in range(longest):
        law = torch.log_softmax(logits.double() / (temperature or 1.0), -1)
        token = inverse_cdf(law.exp(), uniforms[:, t]) if temperature else law.argmax(-1)
        tokens.append(torch.where(alive, token, 0))
        log_probs.append(torch.where(alive, law.gather(1, token[:, None])[:, 0], 0.0))
        masks.append(alive)
        alive = alive & ~torch.isin(token, ends)
        if t + 1 == longest or not bool(alive.any()):
            break
        attention = torch.cat([attention, torch.ones_like(attention[:, :1])], 1)
        out = model(
            input_ids=token[:, None], attention_mask=attention.long(), position_ids=(position + t)[:, None],
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        logits = out.logits[:, -1]
    model.train(training)
    return Completions(torch.stack(tokens, 1), torch.stack(masks, 1), torch.stack(log_probs, 1), ~alive)


def positions(mask: Bool[torch.Tensor, "n p"]) -> Int[torch.Tensor, "n p"]:
    """Position of every token in its own text, whatever the padding before it."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)
