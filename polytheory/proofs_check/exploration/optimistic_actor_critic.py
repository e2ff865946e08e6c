"""Claims of the optimistic actor-critic, and what `polytheory verify` solves for it."""

from __future__ import annotations

from typing import Any

from polytheory.models.random_models import random_linear
from polytheory.proofs_check.claims import Demo
from polytheory.proofs_check.exploration import actor_claims as actor_claims
from polytheory.proofs_check.exploration import critic_claims as critic_claims
from polytheory.proofs_check.exploration import learning_claims as learning_claims
from polytheory.proofs_check.exploration import run_claims as run_claims

_LINEAR = {"S": 5, "A": 3, "d": 3, "horizon": 3, "seed": 7}


def _linear(**settings: Any) -> Any:
    return lambda room, model: {"phi": random_linear(**_LINEAR).phi, **settings}


DEMOS = (
    Demo(
        "baited-lock", "Nora", {"episodes": 100, "value_bound": 1.2}, steps=100, options={"H": 4}, lockstep_steps=25,
        lockstep_tolerance=1e-12,
    ),
    Demo(
        "riverswim", "Douhua", {"episodes": 60}, steps=60, options={"S": 4, "horizon": 6}, lockstep_steps=15,
        lockstep_tolerance=1e-12,
    ),
    Demo(
        "random-linear", "Nora", _linear(episodes=80), steps=80, options=_LINEAR, lockstep_steps=25,
        lockstep_tolerance=1e-12,
    ),
)  # fmt: skip
