"""Supervised fine-tuning: maximum likelihood of demonstrations, the warm start of a reinforcement-learning run."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from polytheory.access import Grant, Key
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.scaled.language import ranks as processes
from polytheory.scaled.language.adapters import dropping
from polytheory.scaled.language.finetune import HOW, FinetuneState, gradients_of, made, ready
from polytheory.scaled.language.optimiser import AdamW, Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.ranks import Ranks


@dataclass(frozen=True, eq=False)
class Sft:
    """Minimise the mean negative log-likelihood of the demonstrations' tokens.

    Fields:
        start: the policy to start from.
        optimiser: how the gradient is followed.
        batch: demonstrations of one step, >= 1.
        dropout: True puts the model's dropout to work; what is dropped hangs on seed, step and process alone.
        gradient_checkpointing, train_copy: as in `Finetune`; the first goes without dropout.

    Raises `SettingError`.
    """

    start: CausalPolicy
    optimiser: AdamW | Sgd = field(default_factory=AdamW)
    batch: int = 128
    dropout: bool = False
    gradient_checkpointing: bool = field(default=False, metadata=HOW)
    train_copy: bool = field(default=True, metadata=HOW)

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.DATA})

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise SettingError(f"batch = {self.batch}; it must be at least 1")
        if self.dropout and self.gradient_checkpointing:
            raise SettingError("dropout and gradient_checkpointing do not go together in the warm start; drop one")

    @property
    def processes(self) -> Ranks:
        """The processes that take the steps together, see `polytheory.processes`."""
        return processes.current()

    def init(self, access: Any, seed: int, replica: int = 0) -> FinetuneState:
        """A copy of the starting model; weights that are frozen are shared with it."""
        model = ready(self.start.model, copied=self.train_copy, checkpointing=self.gradient_checkpointing)
        return FinetuneState(model, made(self.optimiser, model, self.processes), 0, 0, seed, replica, {})

    def step(self, state: FinetuneState, access: Any) -> tuple[FinetuneState, Info]:
        """One update on the next ``batch`` demonstrations."""
        ranks = self.processes
        columns = access.next_rows(Key(state.seed, "sft", 0), state.t * self.batch, self.batch)
        tokens, own = columns["mask"].sum(), ranks.share(self.batch)
        # one without a row of its own goes through the same passes with the first, and adds nothing
        columns = {name: x[own.start : own.stop] if own else x[:1] for name, x in columns.items()}
        purpose = f"sft/{ranks.rank}" if ranks.rank else "sft"
        with dropping(state.model, Key(state.seed, purpose, state.t)) if self.dropout else nullcontext():
            found = self.policy(state).log_probs(columns)
            loss = -found.sum() / tokens * bool(own)
            loss.backward()
        ranks.sum_gradients(gradients_of(state))
        norm = self.optimiser.apply(state.optimizer, state.updates)
        state.t, state.updates = state.t + 1, state.updates + 1
        return state, {"loss": float(ranks.sum(loss.detach())), "gradient_norm": norm}

    def policy(self, state: FinetuneState) -> CausalPolicy:
        """The model in training as a policy."""
        return self.start.with_model(state.model)

    def done(self, state: FinetuneState) -> bool:
        """A learner is never done by itself."""
        return False
