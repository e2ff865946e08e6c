"""A causal language model as a policy: it completes prompts, and says how likely its completions are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from polytheory._typing import Bool, Float, Int
from polytheory.errors import SettingError
from polytheory.policies import Memoryless
from polytheory.rollouts import LogProbs
from polytheory.scaled.language.sampler import Completions, positions, sample
from polytheory.streams import uniforms

Columns = dict[str, Any]


@dataclass(frozen=True, eq=False)
class CausalPolicy(Memoryless):
    """The law of completions that a transformers causal model defines.

    Fields:
        model: its weights; never changed by a run, which trains a copy.
        eos: token that ends a completion.
        temperature: of sampling and of every log-prob alike, > 0: a ratio of laws needs one temperature.

    Raises `SettingError` for a temperature that is not positive.
    """

    model: Any
    eos: int
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise SettingError(
                f"temperature = {self.temperature}; log-probs need a positive one (evaluation may be greedy)"
            )

    @property
    def contract(self) -> LogProbs:
        """What the log-probs of this policy are."""
        return LogProbs(self.temperature, True, str(self.model.dtype).removeprefix("torch."))

    def with_model(self, model: Any) -> CausalPolicy:
        """The same policy with another model's weights."""
        return CausalPolicy(model, self.eos, self.temperature)

    @torch.no_grad()
    def probs(self, m: Any, h: int, s: Int[torch.Tensor, "n k"]) -> Float[torch.Tensor, "n V"]:
        """Probabilities of the next token, float64; a state is a prefix of k tokens, the prompt's included."""
        everything = torch.ones_like(s, dtype=torch.bool)
        out = self.model.base_model(
            input_ids=s, attention_mask=everything.long(), position_ids=positions(everything), use_cache=False
        )
        return torch.softmax(
            self.model.get_output_embeddings()(out.last_hidden_state[:, -1]).double() / self.temperature, -1
        )

    def complete(
        self,
        prompts: Int[torch.Tensor, "m p"],
        prompt_mask: Bool[torch.Tensor, "m p"],
        row_id: Int[torch.Tensor, " n"],
        key: tuple[int, str, int],
        longest: int,
        *,
        greedy: bool = False,
    ) -> Completions:
        """n completions of at most ``longest`` tokens, n / m for every prompt; random numbers hang on (key, row id)."""
        u = uniforms(*key, row_id.to(prompts.device), longest)
        temperature = 0.0 if greedy else self.temperature
        return sample(self.model, prompts, prompt_mask, u, eos=self.eos, temperature=temperature)

    def log_probs(self, columns: Columns) -> Float[torch.Tensor, "n t"]:
        """Log-probs of the completions, differentiable in the weights; 0 where masked.

        Reads ``prompt_ids`` and ``prompt_mask`` [n, p], padded on the left, ``actions`` and ``mask`` [n, t].
        """
        prompts, actions, mask = columns["prompt_ids"], columns["actions"], columns["mask"]
        ids = torch.cat([prompts, actions], 1)
        attention = torch.cat([columns["prompt_mask"], mask], 1)
        out = self.model.base_model(
            input_ids=ids, attention_mask=attention.long(), position_ids=positions(attention), use_cache=False
        )
        hidden = out.last_hidden_state[:, prompts.shape[1] - 1 : -1]
        logits = self.model.get_output_embeddings()(hidden)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / self.temperature
        found = torch.log_softmax(logits, -1).gather(2, actions[..., None])[..., 0]
        return torch.where(mask, found, torch.zeros_like(found))
