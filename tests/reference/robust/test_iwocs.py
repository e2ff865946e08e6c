"""Incremental worst-case search: worked traces, its bracket where sets are not rectangular, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.access import KnownModel
from polytheory.errors import DiscountError, SettingError, UnknownNameError
from polytheory.models import make
from polytheory.models.ambiguity import Scenarios
from polytheory.models.windy_walk import wind_kernels, windy_walk
from polytheory.proofs_check.robust.iwocs import stuck
from polytheory.proofs_check.robust.operator_claims import pennies
from polytheory.reference.planning.planning import solve
from polytheory.reference.robust.iwocs import Iwocs
from polytheory.run import run

VALUES = {
    0: -4.52438125,
    6: -5.20839771,
    12: -6.22962255,
    16: -7.20562289,
    18: -7.60491177,
    20: -7.69162598,
    24: -7.95214749,
}


@pytest.mark.parametrize("index", list(VALUES))
def test_values_of_the_walk(index):
    assert solve(windy_walk(alpha=0.5 * index / 24), tol=1e-9).v[0] == pytest.approx(VALUES[index], abs=1e-8)


@pytest.mark.parametrize(("index", "iterations"), [(0, 2), (12, 2), (24, 1)])
def test_the_walk_is_certified_from_any_wind(index, iterations):
    search = Iwocs(Scenarios(wind_kernels()), worst="static", tol=1e-8)
    state = run(search, KnownModel(windy_walk(alpha=0.5 * index / 24)), progress=False).state
    assert (state.status, state.iterations) == ("certified", iterations)
    assert state.lower == pytest.approx(-7.952147489722, abs=1e-8)


def test_the_first_candidate_is_worth_little_in_strong_wind():
    done = run(Iwocs(Scenarios(wind_kernels()), worst="static"), KnownModel(windy_walk()), progress=False)
    lower = done.history.column("lower")[:, 0]
    assert lower[np.isfinite(lower)][0] == pytest.approx(-10.294413239, abs=1e-7)


def test_the_result_of_a_stuck_search_is_its_best_candidate():
    listed = stuck()
    done = run(Iwocs(Scenarios(listed.kernels)), listed.access, progress=False)
    assert done.state.status == "stuck"
    assert done.policy.table.argmax(-1).tolist() == [0, 0, 1]


def test_pennies_are_certified_for_deterministic_policies_only():
    model, kernels = pennies()
    state = run(Iwocs(Scenarios(kernels), worst="static"), KnownModel(model), progress=False).state
    assert state.upper == pytest.approx(0.0, abs=1e-6)
    coin = np.full((3, 2), 0.5)
    guaranteed = [
        np.linalg.solve(np.eye(3) - 0.9 * np.einsum("sa,sat->st", coin, kernel), model.r_at().mean(-1))[0]
        for kernel in kernels
    ]
    assert min(guaranteed) == pytest.approx(4.5)


def test_what_is_refused():
    for settings, error, says in (
        ({"variant": "deep"}, UnknownNameError, "variant"),
        ({"ambiguity": "shared-l1:0.1"}, SettingError, "no set of kernels"),
        ({"worst": "static"}, SettingError, "list of kernels"),
        ({"tol": 0.0}, SettingError, "take a positive one"),
    ):
        with pytest.raises(error, match=says):
            Iwocs(**settings)
    with pytest.raises(DiscountError, match="horizon"):
        run(Iwocs(), KnownModel(make("riverswim")), progress=False)
