"""Every algorithm of the catalog, in both rooms, resumes exactly."""

from __future__ import annotations

import pytest

from polytheory.access.defaults import default_access
from polytheory.access.worlds import Worlds
from polytheory.catalog import find, methods
from polytheory.cli._build import ROOMS, algorithm_class, make_algorithm
from polytheory.conformance.resume import assert_resume_exact
from polytheory.models import make
from polytheory.models.physics import Pendulum

SETTINGS = {"n-pg-igt": {"truncation": 7, "batch": 2}, "harpg": {"truncation": 7, "batch": 2}}
SETTINGS["agnostic-policy-learning"] = {"policies": "two-ton"}
SETTINGS["distributional-dp"] = {"atoms": 9, "stocks": 7}
OFFLINE = {"NoraHybrid", "Noah"}
REFERENCE_ONLY, SCALED_ONLY = (
    {"InexactPolicyIteration", "LinearProgram"},
    {"DeepIwocs", "DeepTraining", "StockQuantileAgent"},
)
FEW = {"iterations": 3, "updates": 3, "batch": 8, "hidden": 4}
DEEP = {
    "DeepTraining": {"training": FEW},
    "DeepIwocs": {"training": {**FEW, "iterations": 1}, "generations": 2, "population": 4, "episodes": 2, "fresh": 2},
}
# both levels' steps come before the stop, which is between them, and after it
PREFERENCE = {"upper": "preference", "lower_steps": 1}
OWN = {
    "Parl": {**PREFERENCE, "lower": "gradient", "route": "implicit"},
    "SampledParl": {**PREFERENCE, "truncation": 3, "lower_batch": 4, "upper_batch": 2, "curvature_batch": 2},
}
QUANTILES = {
    "StockQuantileAgent": {
        "truncation": 6,
        "updates": 3,
        "batch": 4,
        "width": 8,
        "minibatch": 8,
        "copy_every": 2,
        "buffer": 40,
    }
}
CASES = [
    (entry.name, name, room)
    for entry in methods()
    for name in entry.algorithms
    for room in ROOMS
    if name not in (REFERENCE_ONLY if room == "scaled" else SCALED_ONLY)
]


@pytest.mark.parametrize(("method", "algorithm", "room"), CASES)
def test_resume_is_exact(method, algorithm, room):
    entry = find(method)
    if entry.family == "posttraining":
        model = make("token-mdp")
    elif method == "agnostic-policy-learning":
        model = make("block-two-state" if algorithm == "Plhr" else "layered-two-state")
    elif method in ("optimistic-actor-critic", "dr-rpo"):
        model = make("riverswim", horizon=4)
    else:
        model = make("riverswim", gamma=0.9, horizon=8 if algorithm.endswith("BackwardInduction") else None)
    cls = algorithm_class(entry, algorithm, room)
    settings = dict((DEEP | OWN | QUANTILES).get(algorithm, SETTINGS.get(method, {})))
    if algorithm in OFFLINE:
        settings["offline"] = "half-optimal:5"

    def access():
        if algorithm in DEEP:
            return Worlds(Pendulum(), truncation=5)
        base = default_access(entry.access_of(algorithm), model)
        return base if room == "reference" else base.replicate(1 if algorithm in QUANTILES else 3)

    whole = assert_resume_exact(
        lambda: make_algorithm(cls, settings, model), access, 3 if algorithm in OWN else 2, seed=5
    )
    if algorithm != "LinearProgram":  # one step is all it takes
        assert whole.steps > 2
    if algorithm in OWN:
        assert whole.state.t == 3
