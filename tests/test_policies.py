"""Policies: what is refused, and that a mixture follows one component per episode."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_oracles import total_variation, trajectory_law
from numpy.testing import assert_allclose, assert_array_equal

from polytheory.conformance import strategies
from polytheory.errors import NotStochasticError, PolicyError
from polytheory.models import make
from polytheory.policies import Mixture, Policy, TabularPolicy

TWO = make("two-state", horizon=3, gamma=0.9)
NEVER, ALWAYS = (TabularPolicy.deterministic(np.array([a, a]), 2) for a in (0, 1))


def test_tables():
    policy = TabularPolicy(np.array([[0.25, 0.75], [1.0, 0.0]]))
    assert_array_equal(policy.probs(None, 5, np.array([1, 0, 1])), [[1, 0], [0.25, 0.75], [1, 0]])
    staged = TabularPolicy.deterministic(np.array([[0, 1], [1, 1]]), 3)
    assert staged.is_staged
    assert not policy.is_staged
    assert_array_equal(staged.probs(None, 0, np.array([1])), [[0, 1, 0]])
    assert_array_equal(staged.probs(None, 1, np.array([0])), [[0, 1, 0]])
    assert_array_equal(TabularPolicy.uniform(2, 4).table, np.full((2, 4), 0.25))
    assert policy.start(3) is None
    for p in (policy, Mixture((policy,), np.ones(1))):
        assert isinstance(p, Policy)


def test_tables_are_copied_and_read_only():
    table = np.full((2, 2), 0.5)
    policy = TabularPolicy(table)
    table[0] = 7
    assert_array_equal(policy.table, np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match="read-only"):
        policy.table[0] = 1


@pytest.mark.parametrize(
    ("make_policy", "error", "message"),
    [
        (lambda: TabularPolicy(np.array([[0.5, 0.6]])), NotStochasticError, r"policy\[0\] sums to 1\.1"),
        (lambda: TabularPolicy(np.array([[1.5, -0.5]])), NotStochasticError, r"policy\[0, 1\] = -0\.5 is negative"),
        (lambda: TabularPolicy(np.array([[np.nan, 1.0]])), NotStochasticError, r"policy\[0, 0\] = nan"),
        (lambda: TabularPolicy(np.zeros((2, 0))), PolicyError, r"A >= 1; got \[2, 0\]"),
        (lambda: TabularPolicy(np.ones((1, 1, 1, 1))), PolicyError, r"\[S, A\] or \[H, S, A\]"),
        (lambda: TabularPolicy.deterministic(np.array([0, 2]), 2), PolicyError, r"\[0, 2\); got 0 to 2"),
        (lambda: TabularPolicy.deterministic(np.array([-1]), 2), PolicyError, "got -1"),
        (lambda: Mixture((), np.ones(0)), PolicyError, "0 policies"),
        (lambda: Mixture((NEVER,), np.full(2, 0.5)), PolicyError, r"1 policies need as many weights; got shape \[2\]"),
        (lambda: Mixture((NEVER, ALWAYS), np.array([0.5, 0.6])), NotStochasticError, r"weights sums to 1\.1"),
    ],
)
def test_bad_policies(make_policy, error, message):
    with pytest.raises(error, match=message):
        make_policy()


def law_of_a_draw_of_components(model, mixture, steps):
    """Draw the component first, then follow it."""
    law = defaultdict(float)
    for weight, component in zip(mixture.weights, mixture.components, strict=True):
        if weight > 0:
            for path, p in trajectory_law(model, component, steps).items():
                law[path] += weight * p
    return law


@settings(max_examples=25)
@given(data=st.data())
def test_a_mixture_has_the_law_of_drawing_a_component_first(data):
    """Realisation equivalence, by enumerating every trajectory. Each probability is a product of at most 10 numbers in
    [0, 1]; there are at most (3 * 2)^3 * 3 of them."""
    model = data.draw(strategies.tabular_mdps(max_states=3, max_actions=2, horizon=3, staged=data.draw(st.booleans())))
    mixture = data.draw(strategies.mixtures(model, staged=data.draw(st.booleans())))
    steps = data.draw(st.integers(1, 3))
    mine, expected = trajectory_law(model, mixture, steps), law_of_a_draw_of_components(model, mixture, steps)
    assert_allclose(sum(mine.values()), 1, rtol=1e-13)
    assert total_variation(mine, expected) < 648 * 20 * 2.0**-53


class Forgetful(Mixture):
    """Wrong: draws a component anew in every step."""

    def update(self, m, h, s, a, r, s2):
        return m


class Late(Mixture):
    """Wrong: uses the state after the step."""

    def update(self, m, h, s, a, r, s2):
        return super().update(m, h, s2, a, r, s2)


@pytest.mark.parametrize("mutant", [Forgetful, Late])
def test_wrong_memories_have_another_law(mutant):
    split = TabularPolicy(np.array([[0.9, 0.1], [0.2, 0.8]])), TabularPolicy(np.array([[0.3, 0.7], [0.6, 0.4]]))
    weights = np.array([0.5, 0.5])
    expected = law_of_a_draw_of_components(TWO, Mixture(split, weights), 3)
    assert total_variation(trajectory_law(TWO, Mixture(split, weights), 3), expected) < 1e-13
    assert total_variation(trajectory_law(TWO, mutant(split, weights), 3), expected) > 0.01


def test_a_posterior_by_hand():
    mixture = Mixture((NEVER, TabularPolicy.uniform(2, 2)), np.array([0.5, 0.5]))
    m, s = mixture.start(1), np.array([0])
    assert_array_equal(mixture.probs(m, 0, s), [[0.75, 0.25]])
    m = mixture.update(m, 0, s, np.array([0]), None, s)
    assert_allclose(m, [[2 / 3, 1 / 3]], rtol=1e-15)
    m = mixture.update(m, 1, s, np.array([1]), None, s)
    assert_array_equal(m, [[0, 1]])  # one wrong action settles it
