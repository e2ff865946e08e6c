"""The claims of agnostic policy learning, in six groups, and what `polytheory verify` solves for it."""

from typing import Any

from polytheory.models.layered import layers_of
from polytheory.policy_classes import make_class
from polytheory.proofs_check.claims import Demo
from polytheory.proofs_check.exploration import class_claims as class_claims
from polytheory.proofs_check.exploration import coverage_claims as coverage_claims
from polytheory.proofs_check.exploration import plhr_claims as plhr_claims
from polytheory.proofs_check.exploration import popler_claims as popler_claims
from polytheory.proofs_check.exploration import reset_claims as reset_claims
from polytheory.proofs_check.exploration import selection_claims as selection_claims


def _with(name: str, **settings: Any) -> Any:
    return lambda room, model: {"policies": make_class(name, layers_of(model)), **settings}


DEMOS = (
    Demo("layered-two-state", "TrajectoryTree", _with("two-ton", batch=4), steps=60, access="GenerativeModel"),
    Demo("layered-two-state", "ImportanceSampling", _with("two-ton", batch=12), steps=60),
    Demo("layered-two-state", "Popler", _with("two-ton", batch=200), steps=8, lockstep_steps=7),
    Demo("layered-two-state", "Psdp", _with("everything", batch=200), steps=3, access="MuReset", lockstep_steps=4),
    Demo("layered-two-state", "Cpi", _with("everything", batch=100, alpha=0.2), steps=60, access="MuReset"),
    Demo("block-two-state", "Plhr", _with("random", rollouts=100), steps=6, access="HybridResets", lockstep_steps=6),
)
