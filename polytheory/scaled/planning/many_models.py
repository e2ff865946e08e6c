"""Many known models of one shape, planned in one batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from polytheory.access import Grant, KnownModel, Meter
from polytheory.errors import ModelError
from polytheory.models.tabular import TabularMDP
from polytheory.scaled.planning.tensors import same_shape


class ManyModels:
    """n known models as one batched access: replica i plans model i. Discounts may differ.

    Raises `ModelError` when there is no model, or S, A or the horizon differ.
    """

    grants: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __init__(self, models: Sequence[TabularMDP], *, device: str | torch.device = "cpu"):
        if not models:
            raise ModelError("a batch of models needs at least one model")
        self.models, self.device, self.replicas = tuple(models), torch.device(device), len(models)
        same_shape(self.models)
        self.meter = Meter(self.replicas)
        ranges = [m.reward_range for m in self.models]
        self.spec = dataclasses.replace(
            KnownModel(self.models[0]).spec,
            gamma=max(m.gamma for m in self.models),
            reward_range=(min(x[0] for x in ranges), max(x[1] for x in ranges)),
            r=None,
            name=f"{self.replicas} models",
        )

    def state_dict(self) -> dict[str, Any]:
        """The meter, for checkpoints."""
        return {"meter": self.meter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` saved."""
        self.meter.load_state_dict(state["meter"])
