"""Supervised fine-tuning: maximum likelihood of demonstrations, the warm start of a reinforcement-learning run."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from polytheory.access import Grant, Key
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.scaled.language.adapters import dropping, trainable_copy
from polytheory.scaled.language.finetune import FinetuneState
from polytheory.scaled.language.optimiser import AdamW, Sgd
from polytheory.scaled.language.policy import CausalPolicy


@dataclass(frozen=True, eq=False)
class Sft:
    """Minimise the mean negative log-likelihood of the demonstrations' tokens.

    Fields:
        start: the policy to start from.
        optimiser: how the gradient is followed.
        batch: demonstrations of one step, >= 1.
        dropout: True puts the model's dropout to work; what is dropped hangs on seed and step alone.

    Raises `SettingError`.
    """

    start: CausalPolicy
    optimiser: AdamW | Sgd = field(default_factory=AdamW)
    batch: int = 128
    dropout: bool = False

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.DATA})

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise SettingError(f"batch = {self.batch}; it must be at least 1")

    def init(self, access: Any, seed: int, replica: int = 0) -> FinetuneState:
        """A copy of the starting model; weights that are frozen are shared with it."""
        model = trainable_copy(self.start.model)
        return FinetuneState(model, self.optimiser.make(model.parameters()), 0, 0, seed, replica, {})

    def step(self, state: FinetuneState, access: Any) -> tuple[FinetuneState, Info]:
        """One update on the next ``batch`` demonstrations."""
        columns = access.next_rows(Key(state.seed, "sft", 0), state.t * self.batch, self.batch)
        with dropping(state.model, Key(state.seed, "sft", state.t)) if self.dropout else nullcontext():
            found = self.policy(state).log_probs(columns)
            loss = -found.sum() / columns["mask"].sum()
            loss.backward()
        norm = self.optimiser.apply(state.optimizer, state.updates)
        state.t, state.updates = state.t + 1, state.updates + 1
        return state, {"loss": float(loss.detach()), "gradient_norm": norm}

    def policy(self, state: FinetuneState) -> CausalPolicy:
        """The model in training as a policy."""
        return self.start.with_model(state.model)

    def done(self, state: FinetuneState) -> bool:
        """A learner is never done by itself."""
        return False
