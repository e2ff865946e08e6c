"""A reward that is learned: a transformer with one number for each completion.

What a run needs of a reward model is little, so that any torch module will do: called with the columns of completions it
returns scores [n] with gradient, and it has ``parameters()``, ``state_dict()`` and ``load_state_dict()``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from polytheory._typing import Float
from polytheory.scaled.language.adapters import trainable_copy, without_dropout
from polytheory.scaled.language.sampler import positions

Columns = dict[str, Any]


class RewardModel:
    """The score ``w . hidden`` of a completion's last token, on a copy of a causal model.

    ``w`` is 0 at first, so that all completions score 0 and the best policy for this reward is the reference policy itself.

    Args:
        model: a transformers causal model; copied where it is trained, shared where it is frozen. Its output layer is not used.
    """

    def __init__(self, model: Any):
        self.trunk = without_dropout(trainable_copy(model))
        like = self.trunk.get_output_embeddings().weight
        self.head = torch.nn.Parameter(torch.zeros(like.shape[1], device=like.device))

    def __call__(self, columns: Columns) -> Float[torch.Tensor, " n"]:
        """Scores, float32, differentiable in the weights.

        Reads ``prompt_ids`` and ``prompt_mask`` [n, p], padded on the left, ``actions`` and ``mask`` [n, t].
        """
        attention = torch.cat([columns["prompt_mask"], columns["mask"]], 1)
        out = self.trunk.base_model(
            input_ids=torch.cat([columns["prompt_ids"], columns["actions"]], 1), attention_mask=attention.long(),
            position_ids=positions(attention), use_cache=False,
        )  # fmt: skip
        last = columns["prompt_ids"].shape[1] - 1 + columns["mask"].sum(1)
        hidden = out.last_hidden_state[torch.arange(len(last), device=last.device), last]
        return hidden.float() @ self.head

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Weights of trunk and head."""
        yield from self.trunk.parameters()
        yield self.head

    def state_dict(self) -> dict[str, Any]:
        """What the trunk saves (its adapters, where only they are trained), and the head."""
        return {"trunk": self.trunk.state_dict(), "head": self.head.detach()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.trunk.load_state_dict(state["trunk"])
        self.head.copy_(state["head"])
