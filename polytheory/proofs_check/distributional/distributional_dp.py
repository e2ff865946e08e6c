"""The claims of distributional dynamic programming, in groups, and what `polytheory verify` solves for it."""

from polytheory.proofs_check.claims import Demo
from polytheory.proofs_check.distributional import history_claims as history_claims
from polytheory.proofs_check.distributional import mixture_claims as mixture_claims
from polytheory.proofs_check.distributional import operator_claims as operator_claims
from polytheory.proofs_check.distributional import solver_claims as solver_claims
from polytheory.proofs_check.distributional import vector_claims as vector_claims

DEMOS = (
    Demo(
        "frozenlake",
        "DistributionalValueIteration",
        {"objective": "mean-cvar:0.5:0.25", "atoms": 31, "stocks": 31, "tol": 1e-2},
        options={"gamma": 0.9},
        access="KnownModel",
        lockstep_steps=8,
        lockstep_replicas=1,
    ),
    Demo(
        "toll-road",
        "DistributionalValueIteration",
        {"objective": "cvar:0.25"},
        access="KnownModel",
        lockstep_steps=6,
    ),
    Demo(
        "wager",
        "DistributionalPolicyIteration",
        {"objective": "target:8", "representation": "quantile", "atoms": 64},
        access="KnownModel",
        lockstep_steps=3,
    ),
    Demo(
        "wager",
        "DistributionalPolicyIteration",
        vector_claims.paid_settings,
        access="KnownModel",
        lockstep_steps=3,
    ),
)
