"""Sampling through transformers' ``generate``, for models whose caches only transformers knows.

Tokens are drawn by inverse CDF from each row's own stream, as the cached sampler draws them: both give the same completions,
up to rounding of the logits, and a resumed run needs no generator state.
"""

from __future__ import annotations

from typing import Any

import torch

from polytheory.access.batched import inverse_cdf
from polytheory.errors import require
from polytheory.scaled.language.sampler import Completions
from polytheory.scaled.language.samplers.rows import check_rows, ends_of
from polytheory.streams import uniforms


class _Draw:
    """A logits processor that leaves the drawn token alone finite, and keeps its log-prob."""

    def __init__(self, u: torch.Tensor, temperature: float):
        self.u, self.temperature = u, temperature
        self.log_probs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        law = torch.log_softmax(scores.double() / (self.temperature or 1.0), -1)
        t = len(self.log_probs)
        token = inverse_cdf(law.exp(), self.u[:, t]) if self.temperature else law.argmax(-1)
        self.log_probs.append(law.gather(1, token[:, None])[:, 0])
        return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)


class Generate:
    """transformers' ``generate`` with every setting of the model's own generation config set aside.

    Models of the hub bring a generation config (top-k, top-p, repetition penalty, further end tokens). ``generate`` fills in
    whatever the caller left unset from it, and the law that is sampled is then no longer the one that is trained: here the
    model's config is replaced for the time of the call.
    """

    @torch.no_grad()
    def complete(self, model, prompts, prompt_mask, row_id, key, longest, *, eos, temperature) -> Completions:
        """As `Sampler.complete`."""
        transformers = require("transformers", "lm")
        each = check_rows(prompts, row_id, temperature)
        seed, purpose, step = key
        draw = _Draw(uniforms(seed, purpose, step, row_id.to(prompts.device), longest), temperature)
        ends = ends_of(eos)
        config = transformers.GenerationConfig(
            max_new_tokens=longest, do_sample=False, eos_token_id=ends, pad_token_id=ends[0], use_cache=True
        )
        own: Any = model.generation_config
        training = model.training
        model.eval()
        model.generation_config = config
        try:
            ids = model.generate(
                prompts.repeat_interleave(each, 0), attention_mask=prompt_mask.long().repeat_interleave(each, 0),
                generation_config=config, logits_processor=transformers.LogitsProcessorList([draw]),
            )  # fmt: skip
        finally:
            model.generation_config = own
            model.train(training)
        actions = ids[:, prompts.shape[1] :]
        ended = torch.isin(actions, torch.tensor(ends, device=actions.device)).long()
        mask = ended.cumsum(1) - ended == 0  # True up to and with the first end token
        log_probs = torch.stack(draw.log_probs, 1)
        finished = (ended.bool() & mask).any(1)
        return Completions(torch.where(mask, actions, 0), mask, torch.where(mask, log_probs, 0.0), finished)

    def close(self) -> None:
        """Nothing is held."""
