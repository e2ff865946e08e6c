"""What a sampler is, the default one, and the choice by name.

A sampler completes prompts with the weights that it is given: those of the model in training, of a look-ahead, of the policy
that is evaluated. One that keeps a copy of the weights compares it with the model at every call and pushes them when, and
only when, they differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from polytheory._typing import Bool, Int
from polytheory.errors import SettingError, UnknownNameError
from polytheory.scaled.language.sampler import Completions, sample
from polytheory.streams import uniforms

NAMES = ("cached", "generate", "vllm", "vllm-server")


@runtime_checkable
class Sampler(Protocol):
    """Completes prompts."""

    def complete(
        self,
        model: Any,
        prompts: Int[torch.Tensor, "m p"],
        prompt_mask: Bool[torch.Tensor, "m p"],
        row_id: Int[torch.Tensor, " n"],
        key: tuple[int, str, int],
        longest: int,
        *,
        eos: int | Sequence[int],
        temperature: float,
    ) -> Completions:
        """n completions of at most ``longest`` tokens with the weights of ``model``, n / m for every prompt, rows of a prompt
        together; random numbers hang on (key, row id) alone; temperature 0 takes the likeliest token."""
        ...

    def close(self) -> None:
        """Give back what the sampler holds; it opens again when it is asked again."""
        ...


class Cached:
    """Batched sampling with a key-value cache of our own: `polytheory.scaled.language.sampler.sample`."""

    def complete(self, model, prompts, prompt_mask, row_id, key, longest, *, eos, temperature) -> Completions:
        """As `Sampler.complete`."""
        seed, purpose, step = key
        u = uniforms(seed, purpose, step, row_id.to(prompts.device), longest)
        return sample(model, prompts, prompt_mask, u, eos=eos, temperature=temperature)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class Sampling:
    """Who completes the prompts.

    Fields:
        sampler: "cached" (our own, any causal model of transformers), "generate" (transformers), "vllm" (in this process), or
            "vllm-server" (a running ``vllm serve``, on other GPUs for instance).
        sampler_url: address of the server, for "vllm-server".
        sampler_folder: for "vllm-server": where weights are handed over; trainer and server both see it. "" makes one in the
            temporary folder, which serves when both run on one machine.
        sampler_memory: for "vllm": share of the GPU's memory that vLLM may use, in (0, 1]; on a CPU a share of its memory.
        sampler_rows: most completions at a time, >= 1; for "vllm" and "vllm-server".
        sampler_length: for "vllm": longest prompt and completion together, in tokens; 0 takes what the data need.

    Raises `UnknownNameError`, `SettingError`.
    """

    sampler: str = "cached"
    sampler_url: str = "http://localhost:8000"
    sampler_folder: str = ""
    sampler_memory: float = 0.3
    sampler_rows: int = 256
    sampler_length: int = 0

    def __post_init__(self) -> None:
        if self.sampler not in NAMES:
            raise UnknownNameError("sampler", self.sampler, NAMES)
        if not 0 < self.sampler_memory <= 1:
            raise SettingError(f"sampler_memory = {self.sampler_memory}; a share of the memory lies in (0, 1], try 0.3")
        if self.sampler_rows < 1:
            raise SettingError(f"sampler_rows = {self.sampler_rows}; at least 1 completion at a time")
        if self.sampler_length < 0:
            raise SettingError(f"sampler_length = {self.sampler_length}; give tokens, or 0 for what the data need")
        if not self.sampler_url.startswith(("http://", "https://")):
            raise SettingError(f"sampler_url = {self.sampler_url!r}; an address begins with http:// or https://")

    def make(self, longest: int = 0) -> Sampler:
        """The sampler; ``longest`` bounds prompt and completion together where ``sampler_length`` does not (0: the model's
        own bound). Raises `MissingExtraError` when its package is not installed."""
        if self.sampler == "cached":
            return Cached()
        if self.sampler == "generate":
            from polytheory.scaled.language.samplers.generate import Generate

            return Generate()
        if self.sampler == "vllm":
            from polytheory.scaled.language.samplers.vllm import Vllm

            return Vllm(memory=self.sampler_memory, rows=self.sampler_rows, longest=self.sampler_length or longest)
        from polytheory.scaled.language.samplers.vllm_server import VllmServer

        return VllmServer(self.sampler_url, folder=self.sampler_folder, rows=self.sampler_rows)
