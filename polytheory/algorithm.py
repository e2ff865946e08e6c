"""The contract between a method and the driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from polytheory.access import Grant
from polytheory.policies import Policy

State = TypeVar("State")

Info = Mapping[str, Any]
"""What one step reports: names to numbers, or arrays [n] over replicas. Goes into the history."""


@runtime_checkable
class Algorithm(Protocol[State]):
    """A frozen dataclass whose fields are the hyper-parameters; run state lives in what ``init`` returns.

    ``init`` is cheap and asks nothing of the access. ``step`` makes one sweep, episode or iteration. ``policy`` is the
    policy that the guarantee speaks of. ``done`` is True when the result is certified and nothing is left to do;
    learners return False. A budget never reaches the method: what a theorem depends on is a field.
    """

    requires: ClassVar[frozenset[Grant]]

    def init(self, access: Any, seed: int, replica: int = 0) -> State: ...
    def step(self, state: State, access: Any) -> tuple[State, Info]: ...
    def policy(self, state: State) -> Policy: ...
    def done(self, state: State) -> bool: ...


def replicate_scalar(x: float | np.ndarray, replicas: int) -> np.ndarray:
    """A logged value as an array of one entry per replica (shape [replicas])."""
    return np.broadcast_to(np.asarray(x, dtype=float), (replicas,))
