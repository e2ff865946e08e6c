"""The named token MDP: known answers and refusals."""

from __future__ import annotations

import pytest
from numpy.testing import assert_allclose

from polytheory.errors import SettingError, UnknownNameError
from polytheory.models import make
from polytheory.reference.planning.planning import solve


@pytest.mark.parametrize(("reward", "best"), [("odd-ones", 1.0), ("ones-minus-half-length", 1.5)])
def test_best_returns_are_known(reward, best):
    model = make("token-mdp", reward=reward)
    assert (model.S, model.A, model.horizon) == (8, 3, 3)
    assert_allclose(model.mu @ solve(model).v[0], best, rtol=1e-12)


def test_refusals():
    with pytest.raises(UnknownNameError, match="did you mean 'odd-ones'"):
        make("token-mdp", reward="odd-one")
    with pytest.raises(SettingError, match="vocabulary = 2"):
        make("token-mdp", vocabulary=2)
