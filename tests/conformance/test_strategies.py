"""The public strategies: what they make is valid, and the ugly cases do occur."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from polytheory.conformance import strategies
from polytheory.models import TabularMDP, make

ANY = strategies.tabular_mdps(sparse=None, transition_rewards=True, random_rewards=True)
FINITE = strategies.tabular_mdps(horizon=2, staged=True, sparse=None)


def rows(model):
    return model.P.toarray() if sp.issparse(model.P) else model.P


UGLY = {
    "one state": (ANY, lambda m: m.S == 1 and m.A > 1),
    "one action": (ANY, lambda m: m.A == 1 and m.S > 1),
    "largest": (ANY, lambda m: (m.S, m.A) == (5, 3)),
    "zero rewards": (ANY, lambda m: m.S > 1 and not m.r_at().any()),
    "equal rewards": (ANY, lambda m: m.S > 1 and m.r_at().min() == m.r_at().max() != 0),
    "different rewards": (ANY, lambda m: m.r_at().min() < 0 < m.r_at().max()),
    "two actions alike": (ANY, lambda m: m.A > 1 < m.S and not m.is_sparse and np.array_equal(m.P[:, 0], m.P[:, 1])),
    "absorbing": (ANY, lambda m: m.S > 1 and m.terminal.any()),
    "absorbing, not terminal": (ANY, lambda m: m.S > 1 and not m.is_sparse and (m.P[0, :, 0] == 1).all() and not m.terminal[0]),
    "certain": (ANY, lambda m: m.S > 1 and set(np.unique(rows(m))) == {0.0, 1.0}),
    "positive": (ANY, lambda m: m.S > 1 and rows(m).min() > 0),
    "gamma 0": (ANY, lambda m: m.gamma == 0),
    "gamma near 1": (ANY, lambda m: m.gamma >= 0.999),
    "sparse": (ANY, lambda m: m.is_sparse),
    "dense": (ANY, lambda m: not m.is_sparse),
    "rewards by transition": (ANY, lambda m: not sp.issparse(m.r) and m.r.ndim == 3),
    "random rewards": (ANY, lambda m: m.reward_law is not None and (m.reward_law.probs.max(axis=-1) < 1).any()),
    "spread start": (ANY, lambda m: (m.mu > 0).sum() > 1),
    "staged": (FINITE, lambda m: m.is_staged and not m.is_sparse and (m.P[0] != m.P[1]).any()),
    "staged, sparse": (FINITE, lambda m: isinstance(m.P, tuple)),
    "gamma 1 with a horizon": (FINITE, lambda m: m.gamma == 1),
    "empty row": (strategies.trajectories(), lambda t: t.n > 1 and (t.lengths == 0).any() and t.mask.any()),
    "empty mask": (strategies.trajectories(), lambda t: not t.mask.any()),
    "full mask": (strategies.trajectories(), lambda t: t.n > 1 and t.mask.all() and t.mask.size > 3),
    "groups of one": (strategies.trajectories(), lambda t: t.n > 1 and len(set(t.group)) == t.n),
    "one group": (strategies.trajectories(), lambda t: t.n > 1 and len(set(t.group)) == 1),
    "tied logits": (strategies.softmax_parameters(3), lambda x: x[0] == x[1] != x[2]),
    "staged features": (strategies.linear_mdps(), lambda m: m.measures.ndim == 3 and m.horizon > 1),
    "one feature": (strategies.linear_mdps(), lambda m: m.d == 1 and len(m.mu) > 1),
    "many observations": (strategies.block_mdps(), lambda b: b.X > b.latent.S > 1),
    "one observation each": (strategies.block_mdps(), lambda b: b.X == b.latent.S > 1),
    "weight zero": (strategies.mixtures(make("two-state")), lambda m: (m.weights == 0).any()),
    "stochastic policy": (strategies.tabular_policies(make("two-state")), lambda p: ((p.table > 0) & (p.table < 1)).any()),
    "staged policy": (
        strategies.tabular_policies(make("two-state", horizon=2), staged=True), lambda p: (p.table[0] != p.table[1]).any(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UGLY)
def test_ugly_cases_occur(case):
    """`find` raises NoSuchExample when a thousand examples do not contain the case."""
    strategy, wanted = UGLY[case]
    no_shrinking = settings(max_examples=1000, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    assert wanted(find(strategy, wanted, settings=no_shrinking))


@given(data=st.data())
def test_arguments_are_respected(data):
    S, A, gamma = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3)), data.draw(st.sampled_from([0.0, 0.3]))
    model = data.draw(strategies.tabular_mdps(max_states=S, max_actions=A, gamma=gamma, terminal=False, sparse=True))
    assert model.S <= S
    assert model.A <= A
    assert model.gamma == gamma
    assert model.is_sparse
    assert not model.terminal.any()
    assert model.horizon is None
    v = data.draw(strategies.values(model, scale=2.0))
    assert v.shape == (model.S,)
    assert np.abs(v).max() <= 2
    assert data.draw(strategies.tabular_policies(model)).table.shape == (model.S, model.A)
    greedy = data.draw(strategies.tabular_policies(model, deterministic=True))
    assert set(np.unique(greedy.table)) <= {0.0, 1.0}


@given(rows=strategies.trajectories(columns=("log_probs_old",)))
def test_trajectories_hold_zeros_where_masked(rows):
    for column in (rows.states, rows.actions, rows.rewards, rows.log_probs_sampler, rows.columns["log_probs_old"]):
        assert column.shape == rows.mask.shape
        assert not column[~rows.mask].any()
    assert (np.diff(rows.mask.astype(int), axis=1) <= 0).all()  # prefixes
    assert (rows.log_probs_sampler <= 0).all()


def test_examples_are_cheap():
    """A model of the default size takes less than 30 ms on average; slower strategies make every claim slow."""
    count = 0

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(model=strategies.tabular_mdps())
    def draw(model: TabularMDP):
        nonlocal count
        count += 1

    begin = time.process_time()
    draw()
    assert count == 60
    assert time.process_time() - begin < 60 * 0.03
