"""The claims of robust planning, in two groups, and what `polytheory verify` solves for it."""

from polytheory.proofs_check.claims import Demo
from polytheory.proofs_check.robust import inner_claims as inner_claims
from polytheory.proofs_check.robust import operator_claims as operator_claims

DEMOS = (
    Demo(
        "frozenlake",
        "RobustValueIteration",
        {"ambiguity": "tv:0.1"},
        options={"gamma": 0.95},
        access="KnownModel",
        lockstep_steps=30,
    ),
    Demo(
        "cliffwalking",
        "RobustValueIteration",
        {"ambiguity": "kl:0.1"},
        options={"gamma": 0.95},
        access="KnownModel",
        lockstep_steps=20,
    ),
    Demo(
        "riverswim",
        "RobustPolicyIteration",
        {"ambiguity": "chi2:0.1"},
        options={"horizon": None, "gamma": 0.9},
        access="KnownModel",
        lockstep_steps=3,
    ),
)
