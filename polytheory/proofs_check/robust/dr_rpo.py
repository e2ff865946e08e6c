"""The claims of DR-RPO, in three groups, and what `polytheory verify` solves for it."""

from typing import Any

from polytheory.models.robust_problems import simulated_linear
from polytheory.proofs_check.claims import Demo
from polytheory.proofs_check.robust import dr_rpo_learning_claims as dr_rpo_learning_claims
from polytheory.proofs_check.robust import dr_rpo_mixture_claims as dr_rpo_mixture_claims
from polytheory.proofs_check.robust import dr_rpo_planning_claims as dr_rpo_planning_claims


def _simulated(**settings: Any) -> Any:
    return lambda room, model: {"phi": simulated_linear().phi, "fail_state": 3, **settings}


DEMOS = (
    Demo("simulated-linear", "DrRpo", _simulated(kind="tv", radius=0.2), steps=200, lockstep_steps=40),
    Demo("simulated-linear", "DrRpo", _simulated(kind="penalised-kl", radius=1.0), steps=100, lockstep_steps=30),
    Demo(
        "frozenlake", "RobustLsvi", {"kind": "chi2", "radius": 0.1}, steps=40, options={"horizon": 6, "gamma": 1.0},
        lockstep_steps=15,
    ),
)  # fmt: skip
