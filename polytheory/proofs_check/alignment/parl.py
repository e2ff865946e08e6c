"""Claims about PARL, and what `polytheory verify` runs for it."""

from __future__ import annotations

from typing import Any

from polytheory.proofs_check.alignment import exact_claims as exact_claims
from polytheory.proofs_check.alignment import language_claims as language_claims
from polytheory.proofs_check.alignment import sampled_claims as sampled_claims
from polytheory.proofs_check.claims import Demo


def _sampled(**settings: Any) -> Any:
    def build(room: Any, model: Any) -> dict[str, Any]:
        return {"policy": room.part("TabularSoftmax").zeros(model.S, model.A), **settings}

    return build


DEMOS = (
    Demo(
        "three-state", "Parl", {"features": "three-state", "route": "implicit"}, steps=150, access="KnownModel",
        lockstep_steps=20,
    ),
    Demo("frozenlake", "Parl", {"tau": 0.05, "alpha": 5.0, "ridge": 0.001}, steps=120, options={"gamma": 0.9},
         access="KnownModel", lockstep_steps=12),
    Demo(
        "two-state", "SampledParl", _sampled(upper="preference", truncation=3, lower_steps=5, lower_batch=16), steps=120,
        lockstep_steps=13,
    ),
)  # fmt: skip
