"""Rows of completions as requests to an engine, and its answers as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from polytheory._typing import Bool, Int
from polytheory.errors import SettingError
from polytheory.scaled.language.sampler import Completions
from polytheory.streams import subseed


def ends_of(eos: int | Sequence[int]) -> list[int]:
    """The tokens that end a completion."""
    return [eos] if isinstance(eos, int) else list(eos)


def check_rows(prompts: Int[torch.Tensor, "m p"], row_id: Int[torch.Tensor, " n"], temperature: float) -> int:
    """Completions of each prompt. Raises `SettingError` when they are not equally many, or for a negative temperature."""
    m, n = len(prompts), len(row_id)
    if temperature < 0:
        raise SettingError(f"temperature = {temperature}; take a positive one, or 0 for the likeliest token")
    if m < 1 or n % m:
        raise SettingError(f"{n} rows for {m} prompts; every prompt needs the same number of rows")
    return n // m


def unpadded(prompts: Int[torch.Tensor, "m p"], prompt_mask: Bool[torch.Tensor, "m p"], each: int) -> list[list[int]]:
    """Token ids of the prompt of every row, without padding."""
    own = [row[keep].tolist() for row, keep in zip(prompts.cpu(), prompt_mask.cpu(), strict=True)]
    return [ids for ids in own for _ in range(each)]


def check_room(ids: Sequence[Sequence[int]], longest: int, room: int, advice: str) -> None:
    """Raise `SettingError` unless prompts and completions fit: an engine would cut them and say nothing."""
    needed = max(map(len, ids)) + longest
    if needed > room:
        raise SettingError(
            f"a prompt and its completion need {needed} tokens, the engine has room for {room}; {advice}"
        )


def seeds(key: tuple[int, str, int], row_id: Int[torch.Tensor, " n"]) -> list[int]:
    """A seed per request that hangs on (seed, purpose, step, row id) alone."""
    seed, purpose, step = key
    return [subseed(seed, f"{purpose}/request", step, i) for i in row_id.tolist()]


def request(seed: int, longest: int, eos: int | Sequence[int], temperature: float) -> dict[str, Any]:
    """Sampling parameters of vLLM for one row, every one that shapes the law written out.

    The engine's own end token and the defaults of a model's generation config are set aside: ``eos`` alone ends a text.
    """
    return {
        "n": 1, "temperature": temperature, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": seed, "max_tokens": longest, "min_tokens": 0,
        "logprobs": 0, "detokenize": False, "stop_token_ids": ends_of(eos), "ignore_eos": True,
    }  # fmt: skip


def completions(
    tokens: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]], eos: int | Sequence[int], device: Any
) -> Completions:
    """Answers of different lengths as padded tensors."""
    lengths = torch.tensor([len(x) for x in tokens])
    longest = int(lengths.max())
    mask = torch.arange(longest) < lengths[:, None]
    actions = torch.zeros(mask.shape, dtype=torch.long)
    found = torch.zeros(mask.shape, dtype=torch.float64)
    actions[mask] = torch.tensor([t for x in tokens for t in x])
    found[mask] = torch.tensor([v for x in log_probs for v in x], dtype=torch.float64)
    ends = ends_of(eos)
    finished = torch.tensor([x[-1] in ends for x in tokens])
    return Completions(*(x.to(device) for x in (actions, mask, found, finished)))
