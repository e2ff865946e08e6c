"""The enumerable language model against known numbers and against the token MDP solved by dynamic programming."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory.errors import ModelError, ShapeError
from polytheory.models.tabular_lm import TabularLM
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.planning import return_of, solve

LM = TabularLM(3, 3)
c, v = np.indices((7, 3))
TH, RF = np.sin(3.0 * c + v + 1), 0.5 * np.cos(2.0 * c + v)
OLD = np.sin(3.0 * c + v + 1) + 0.3 * np.cos(5.0 * c + 2 * v)
R1 = LM.reward(lambda y: y.count(1) % 2)
R2 = LM.reward(lambda y: y.count(1) - 0.5 * len(y))
ROUNDING = 1e-14  # sums of 15 products of numbers of size 1


def test_the_fifteen_sequences_and_seven_contexts_are_in_order():
    assert LM.sequences[:5] == [(2,), (0, 2), (1, 2), (0, 0, 0), (0, 0, 1)]
    assert LM.sequences[-1] == (1, 1, 2)
    assert (LM.N, LM.C) == (15, 7)
    assert LM.contexts == [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]


def test_known_numbers():
    assert_allclose(LM.probs(TH).sum(), 1.0, rtol=ROUNDING)
    assert_allclose(LM.kl(TH, RF), 0.1193607584, atol=5e-11)
    assert_allclose(LM.kl(RF, TH), 0.1061872697, atol=5e-11)
    assert_allclose(LM.expectation(TH, R1), 0.3584990685, atol=5e-11)
    assert_allclose(LM.expectation(OLD, R1), 0.3797133368, atol=5e-11)
    optimum = LM.tilted(RF, R2, 0.7)
    assert_allclose(optimum[:5], [0.1009082407, 0.0337507321, 0.1540012639, 0.0075103830, 0.0282678149], atol=5e-11)
    # IPO: pi ~ ref exp(P(y > mu) / tau) with Bradley-Terry preferences of R2 and mu = ref
    wins = 1 / (1 + np.exp(-(R2[:, None] - R2[None, :]))) @ LM.probs(RF)
    ipo = LM.tilted(RF, wins, 0.7)
    assert_allclose(ipo[:5], [0.2038684443, 0.1189170996, 0.1788105856, 0.0469126309, 0.0571104541], atol=5e-11)


def test_expected_reward_is_the_return_of_the_token_mdp():
    table = np.exp(TH) / np.exp(TH).sum(axis=1, keepdims=True)
    policy = TabularPolicy(np.vstack([table, np.full(3, 1 / 3)]))
    assert_allclose(LM.expectation(TH, R2), return_of(LM.to_tabular(R2), policy), rtol=0, atol=ROUNDING)
    assert_allclose(R2.max(), solve(LM.to_tabular(R2)).v[0, 0], rtol=0, atol=ROUNDING)


def test_the_gradient_is_the_central_difference():
    h, numeric = 1e-5, np.zeros_like(TH)
    for i in np.ndindex(TH.shape):
        step = np.zeros_like(TH)
        step[i] = h
        numeric[i] = (LM.expectation(TH + step, R1) - LM.expectation(TH - step, R1)) / (2 * h)
    # truncation h^2/6 |f'''| with |f'''| < 10, rounding 1e-16 / h
    assert_allclose(LM.gradient(TH, R1), numeric, rtol=0, atol=10 * h**2 + 1e-15 / h)
    wrong = LM.gradient(TH, R1) - LM.expectation(TH, R1) * LM.scores(TH).sum(axis=0)
    assert np.abs(wrong - numeric).max() > 0.1


def test_a_law_on_sequences_has_logits():
    law = LM.tilted(RF, R2, 0.7)
    assert_allclose(LM.probs(LM.logits_of(law)), law, rtol=1e-13)
    # and no other law is better: the regularised objective at the optimum is beta log E_ref exp(R / beta)
    objective = law @ R2 - 0.7 * LM.kl(LM.logits_of(law), RF)
    assert_allclose(objective, 0.7 * np.log(LM.probs(RF) @ np.exp(R2 / 0.7)), rtol=1e-13)


def test_nash_policy_of_a_cycle_and_of_a_total_order():
    order = 0.5 * (1 + np.sign(R2[:, None] - R2[None, :]))
    law = LM.nash(order)
    assert_allclose(law[R2 == R2.max()].sum(), 1.0, atol=1e-9)
    cycle = np.full((15, 15), 0.5)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        cycle[a, b], cycle[b, a] = 1.0, 0.0
    cycle[:3, 3:], cycle[3:, :3] = 1.0, 0.0
    law = LM.nash(cycle)
    assert_allclose(law[:3], np.full(3, 1 / 3), atol=1e-9)
    assert (law @ cycle).min() >= 0.5 - 1e-9


def test_bad_input():
    with pytest.raises(ModelError, match="too many"):
        TabularLM(4, 30)
    with pytest.raises(ModelError, match="eos = 3"):
        TabularLM(3, 3, eos=3)
    with pytest.raises(ShapeError, match=r"logits must be \[7, 3\]"):
        LM.probs(np.zeros((7, 2)))
    with pytest.raises(ModelError, match="beta"):
        LM.tilted(RF, R2, 0.0)
    with pytest.raises(ModelError, match="preference"):
        LM.nash(np.ones((15, 15)))
