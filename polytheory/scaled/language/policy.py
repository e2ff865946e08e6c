"""A causal language model as a policy: it completes prompts, and says how likely its completions are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from polytheory._typing import Bool, Float, Int
from polytheory.errors import SettingError
from polytheory.policies import Memoryless
from polytheory.rollouts import LogProbs
from polytheory.scaled.language.sampler import Completions, positions
from polytheory.scaled.language.samplers.base import Cached, Sampler
from polytheory.scaled.language.sharding import inside
from polytheory.scaled.posttraining.log_probs import token_log_probs

Columns = dict[str, Any]


@dataclass(frozen=True, eq=False)
class CausalPolicy(Memoryless):
    """The law of completions that a transformers causal model defines.

    Fields:
        model: its weights; never changed by a run, which trains a copy.
        eos: token that ends a completion, or several of which any does.
        temperature: of sampling and of every log-prob alike, > 0: a ratio of laws needs one temperature.

        route: of `token_log_probs`; "naive" where a second derivative is wanted.
        sampler: who completes prompts; our own cached sampler unless another is given.

    Raises `SettingError` for a temperature that is not positive.
    """

    model: Any
    eos: int | tuple[int, ...]
    temperature: float = 1.0
    route: str = "chunked"
    sampler: Sampler = field(default_factory=Cached)

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
        return replace(self, model=model)

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
        temperature = 0.0 if greedy else self.temperature
        return self.sampler.complete(
            self.model, prompts, prompt_mask, row_id, key, longest, eos=self.eos, temperature=temperature
        )

    def log_probs(self, columns: Columns) -> Float[torch.Tensor, "n t"]:
        """Log-probs of the completions, differentiable in the weights; 0 where masked; never an [n, t, V] tensor.

        Reads ``prompt_ids`` and ``prompt_mask`` [n, p], padded on the left, ``actions`` and ``mask`` [n, t].
        """
        return self.log_probs_and_entropies(columns, entropy=False)[0]

    def log_probs_and_entropies(
        self, columns: Columns, *, entropy: bool = True
    ) -> tuple[Float[torch.Tensor, "n t"], Float[torch.Tensor, "n t"] | None]:
        """Log-probs, and the entropies of the laws that the tokens were drawn from, in nats; 0 where masked."""
        return inside(self.model, lambda: self._log_probs(columns, entropy))

    def _log_probs(self, columns: Columns, entropy: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        prompts, actions, mask = columns["prompt_ids"], columns["actions"], columns["mask"]
        attention = torch.cat([columns["prompt_mask"], mask], 1)
        out = self.model.base_model(
            input_ids=torch.cat([prompts, actions], 1), attention_mask=attention.long(), position_ids=positions(attention),
            use_cache=False,
        )  # fmt: skip
        hidden, head = out.last_hidden_state[:, prompts.shape[1] - 1 : -1], self.model.get_output_embeddings()
        return token_log_probs(
            hidden, head.weight, actions, bias=head.bias, temperature=self.temperature, mask=mask, entropy=entropy,
            route=self.route,
        )  # fmt: skip
