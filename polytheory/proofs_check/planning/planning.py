"""The claims of planning, in four groups, and what `polytheory verify` solves for it."""

from polytheory.proofs_check.claims import Demo
from polytheory.proofs_check.planning import bound_claims as bound_claims
from polytheory.proofs_check.planning import certificate_claims as certificate_claims
from polytheory.proofs_check.planning import operator_claims as operator_claims
from polytheory.proofs_check.planning import solver_claims as solver_claims

DEMOS = (
    Demo("frozenlake", "ValueIteration", options={"gamma": 0.99}, access="KnownModel", lockstep_steps=40),
    Demo("taxi", "ModifiedPolicyIteration", options={"gamma": 0.99}, access="KnownModel", lockstep_steps=5),
    Demo("cliffwalking", "ValueIteration", options={"gamma": 0.99}, access="KnownModel", lockstep_steps=40),
)
