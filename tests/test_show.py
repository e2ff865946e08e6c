"""Objects with arrays print as one short line."""

import numpy as np
import pytest
import torch

from polytheory import models
from polytheory._show import compact
from polytheory.access import KnownModel, Online
from polytheory.models.objectives import CVaR
from polytheory.policies import TabularPolicy
from polytheory.reference.distributional.plan import plan
from polytheory.reference.planning.planning import ValueIteration, solve
from polytheory.run import run


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((17, 4)), "float64[17, 4]"),
        (torch.zeros(3, 4), "float32[3, 4]"),
        (np.array([1.0, 0.123456789]), "[1, 0.123457]"),
        (torch.tensor([[1, 2]]), "[[1, 2]]"),
        (np.array(0.5), "0.5"),
        (np.empty(0), "[]"),
        ((1,), "(1,)"),
        ((np.ones(9), 2.0), "(float64[9], 2)"),
        (list(range(10)), "[0, 1, 2, 3, 4, 5, 6, 7, ... 2 more]"),
        ({"a": np.ones(9)}, "{'a': float64[9]}"),
        (compact, "compact"),
        (None, "None"),
        ("x" * 100, "'" + "x" * 76 + "..."),
    ],
)
def test_compact(x, text):
    assert compact(x) == text


def test_what_a_user_prints_fits_on_a_screen():
    lake = models.make("frozenlake")
    found = run(ValueIteration(tol=1e-3), KnownModel(lake))
    planned = plan(models.make("toll-road"), CVaR(0.25))
    shown = [lake, found, found.policy, solve(lake), Online(lake), planned, planned.policy, found.history, found.meter]
    for x in shown:
        text = repr(x)
        assert "\n" not in text
        assert len(text) < 700, text
    assert repr(lake).startswith("TabularMDP(P=float64[16, 4, 16], r=float64[16, 4, 16]")
    assert "status=" in repr(found)
    assert "value=-16.6875" in repr(planned)
    assert repr(Online(lake)) == "Online(FrozenLake-v1)"
    assert repr(TabularPolicy(np.eye(2))) == "TabularPolicy(table=[[1, 0], [0, 1]])"
