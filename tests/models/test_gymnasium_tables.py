"""Readers of Gymnasium's tables: episodes end, pay and move exactly as ``env.step`` does."""

from __future__ import annotations

import itertools
from collections import defaultdict
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_oracles import best_by_linear_program, dense
from numpy.testing import assert_allclose, assert_array_equal

from polytheory.errors import ModelError
from polytheory.models import from_gymnasium, make, read_gymnasium
from polytheory.models.gymnasium_tables import _alive

ENVIRONMENTS = {
    "frozenlake": ("FrozenLake-v1", {}),
    "frozenlake-8x8": ("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}),
    "cliffwalking": ("CliffWalking-v1", {}),
    "cliffwalking-slippery": ("CliffWalking-v1", {"is_slippery": True}),
    "taxi": ("Taxi-v4", {}),
    "taxi-rainy": ("Taxi-v4", {"is_rainy": True}),
}


class Forced:
    """A generator whose next ``random()`` is decided by the test."""

    u = 0.0

    def random(self):
        return self.u


def step_law(env, s, a):
    """Law of (next state, reward, terminated) that ``env.step`` has, by walking through all of its random draws.

    The step draws one uniform and looks it up in the cumulative probabilities; midpoints of their gaps hit every outcome.
    """
    edges = np.concatenate([[0.0], np.cumsum([p for p, *_ in env.P[s][a]])])
    law = defaultdict(float)
    for low, high in itertools.pairwise(edges):
        env.s, env.np_random.u = s, (low + high) / 2
        after, reward, terminated, truncated, _ = env.step(a)
        assert not truncated
        law[(after, float(reward), terminated)] += high - low
    return law


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_one_step_is_the_step_of_the_environment(case):
    name, options = ENVIRONMENTS[case]
    env = gymnasium.make(name, **options).unwrapped
    env.np_random = Forced()
    model, notes = read_gymnasium(name, **options)
    P, table, averaged = dense(model), model.successors, 0
    alive, seen = set(np.flatnonzero(env.initial_state_distrib).tolist()), set()
    while alive - seen:  # every state that an episode can be in
        s = min(alive - seen)
        seen.add(s)
        assert not model.terminal[s]
        for a in range(model.A):
            law = step_law(env, s, a)
            alive |= {after for after, _, terminated in law if not terminated}
            expected, paid = defaultdict(float), defaultdict(dict)
            for (after, reward, terminated), p in law.items():
                stop = after if model.terminal[after] else model.S - 1
                key = (stop if terminated else after, terminated)
                expected[key] += p
                paid[key][reward] = p
            mine = {(int(y), bool(model.terminal[y])): P[s, a, y] for y in np.flatnonzero(P[s, a])}
            assert set(mine) == set(expected)
            rewards = dict(zip(table.next_state[s, a].tolist(), table.reward[s, a], strict=True))
            for key, p in mine.items():
                assert_allclose(p, expected[key], rtol=0, atol=1e-15)
                mean = sum(r * q for r, q in paid[key].items()) / expected[key]
                assert_allclose(rewards[key[0]], mean, rtol=1e-15 * len(paid[key]))
                averaged += len(paid[key]) > 1
    assert len(seen) > 10
    noted = sum(int(note.split()[0]) for note in notes if "several rewards" in note)
    # slipping off the cliff and into the wall both end where they began: 3 times at the start, 3 in cells never entered
    assert (averaged, noted) == ((3, 6) if case == "cliffwalking-slippery" else (0, 0))
    assert_array_equal(model.mu[: len(env.P)], env.initial_state_distrib)


def value_of_table(env, mu, gamma, sweeps):
    """Optimal value of a table by sweeping over its own entries: a terminated entry has nothing after it."""
    v = dict.fromkeys(env.P, 0.0)
    for _ in range(sweeps):
        v = {
            s: max(sum(p * (r + (0 if done else gamma * v[y])) for p, y, r, done in cell) for cell in row.values())
            for s, row in env.P.items()
        }
    return sum(m * v[s] for s, m in enumerate(mu) if m > 0)


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_optimal_value_is_that_of_the_table(case):
    """Value iteration stops within gamma^sweeps * |v| of the optimum, the linear program within 1e-7/(1-gamma)."""
    name, options = ENVIRONMENTS[case]
    env = gymnasium.make(name, **options).unwrapped
    gamma, sweeps = 0.8, 120
    model = from_gymnasium(name, gamma=gamma, **options)
    got = model.mu @ best_by_linear_program(model)
    expected = value_of_table(env, env.initial_state_distrib, gamma, sweeps)
    assert_allclose(got, expected, rtol=0, atol=1e-7 / (1 - gamma) + gamma**sweeps * 100 / (1 - gamma))


def test_known_answers():
    gamma = 0.9
    lake = make("frozenlake", gamma=gamma, slippery=False)
    assert_allclose(lake.mu @ best_by_linear_program(lake), gamma**5, atol=1e-6)
    lake = make("frozenlake", gamma=gamma, slippery=False, size=8)
    assert_allclose(lake.mu @ best_by_linear_program(lake), gamma**13, atol=1e-6)
    cliff = make("cliffwalking", gamma=gamma)
    assert_allclose(cliff.mu @ best_by_linear_program(cliff), -(1 - gamma**13) / (1 - gamma), atol=1e-6)
    taxi = make("taxi", gamma=gamma)
    v = best_by_linear_program(taxi)[:500][taxi.mu[:500] > 0]
    steps = np.arange(1, 40)
    trips = -(1 - gamma ** (steps - 1)) / (1 - gamma) + 20 * gamma ** (steps - 1)
    nearest = np.abs(v[:, None] - trips[None, :])
    assert nearest.min(axis=1).max() < 1e-5  # every trip is worth what some whole number of steps is worth
    assert steps[nearest.argmin(axis=1)].max() == 18


def test_what_was_rewired_is_said():
    assert read_gymnasium("FrozenLake-v1")[1] == ()
    (cliff,) = read_gymnasium("CliffWalking-v1")[1]
    assert cliff == "1 end states whose rows moved on or paid were made absorbing with reward 0"
    model, (taxi,) = read_gymnasium("Taxi-v4")
    assert "4 terminated transitions lead to 4 states that episodes also pass through" in taxi
    assert taxi.endswith("one extra absorbing state 500")
    assert_array_equal(np.flatnonzero(model.terminal), [500])


def test_grids_have_the_arrows_of_their_actions():
    """Every arrow points where the environment's own action goes, from a cell in the middle."""
    for name, options, start in (("FrozenLake-v1", {"is_slippery": False}, 9), ("CliffWalking-v1", {}, 15)):
        env = gymnasium.make(name, **options).unwrapped
        grid = from_gymnasium(env).grid
        ways = {"←": (0, -1), "↓": (1, 0), "→": (0, 1), "↑": (-1, 0)}
        for a, arrow in enumerate(grid.arrows):
            after = env.P[start][a][0][1]
            (r, c), (r2, c2) = divmod(start, grid.columns), divmod(int(after), grid.columns)
            assert (r2 - r, c2 - c) == ways[arrow]
    assert from_gymnasium("Taxi-v4").grid is None


# ---- any table -------------------------------------------------------------------------------------------------------


@st.composite
def tables(draw):
    """Small tables with every oddity: ends that move on, ends that are passed through, repeated and impossible entries."""
    S, A = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    P = {}
    for s in range(S):
        P[s] = {}
        for a in range(A):
            k = draw(st.integers(1, 3))
            weights = draw(st.lists(st.integers(0, 3), min_size=k, max_size=k))
            weights[0] += 1
            P[s][a] = [
                (w / sum(weights), draw(st.integers(0, S - 1)), draw(st.integers(-2, 2)), draw(st.booleans()))
                for w in weights
            ]
    mu = np.array(draw(st.lists(st.integers(0, 2), min_size=S, max_size=S)), dtype=float)
    mu[0] += 1
    return SimpleNamespace(P=P, initial_state_distrib=mu / mu.sum())


def expected_rewards(env, actions):
    """Expected reward of every step under open-loop actions, straight from the entries."""
    law, out = {s: m for s, m in enumerate(env.initial_state_distrib) if m > 0}, []
    for a in actions:
        after, total = defaultdict(float), 0.0
        for s, m in law.items():
            for p, y, r, done in env.P[s][a]:
                total += m * p * r
                if not done:
                    after[y] += m * p
        law = after
        out.append(total)
    return out, sum(law.values())


@settings(max_examples=150)
@given(env=tables(), data=st.data())
def test_any_table_pays_and_ends_as_its_entries_do(env, data):
    model = from_gymnasium(env, gamma=0.9)
    actions = data.draw(st.lists(st.integers(0, model.A - 1), min_size=6, max_size=6))
    law, paid = np.array(model.mu), []
    for a in actions:
        law = np.where(model.terminal, 0.0, law)
        paid.append(law @ model.r_at()[:, a])
        law = law @ dense(model)[:, a]
    expected, running = expected_rewards(env, actions)
    assert_allclose(paid, expected, rtol=0, atol=1e-13)
    assert_allclose(law[~model.terminal].sum(), running, rtol=0, atol=1e-14)


def test_the_check_above_rejects_a_reader_that_trusts_the_rows():
    """Read naively, CliffWalking's goal goes on paying -1 and never ends."""
    env = gymnasium.make("CliffWalking-v1").unwrapped
    actions = [0] + [1] * 11 + [2] + [0] * 3
    expected, running = expected_rewards(env, actions)
    s, naive = 36, []
    for a in actions:
        _, s, r, _ = env.P[s][a][0]
        naive.append(r)
    assert expected == [-1] * 13 + [0] * 3
    assert running == 0
    assert naive == [-1] * 16


def test_ends_are_found_by_a_fixed_point():
    """State 1 ends some episodes and lets others through to 2, which must then be alive although it ends others too."""
    stay = [(1.0, 0, 0.0, False)]
    P = {
        0: {0: [(0.5, 1, 0.0, True), (0.5, 1, 0.0, False)]},
        1: {0: [(0.5, 2, 0.0, False), (0.5, 2, 1.0, True)]},
        2: {0: [(1.0, 0, 5.0, False)]},
    }
    env = SimpleNamespace(P=P, initial_state_distrib=np.array([1.0, 0.0, 0.0]))
    model, notes = read_gymnasium(env)
    assert model.r_at()[2, 0] == 5.0
    assert_array_equal(np.flatnonzero(model.terminal), [3])
    assert "2 terminated transitions lead to 2 states" in notes[0]
    once = _alive(
        np.array([True, False, False]),
        np.array([False, True, True]),
        np.arange(3),
        np.array([1, 2, 0]),
        np.zeros(3, bool),
    )
    assert once.all()
    assert read_gymnasium(SimpleNamespace(P={0: {0: stay}}))[0].mu == [1.0]  # no start law: uniform


def test_several_rewards_of_one_transition_are_averaged_and_said():
    env = SimpleNamespace(P={0: {0: [(0.25, 0, 1.0, False), (0.75, 0, -1.0, False)]}})
    model, notes = read_gymnasium(env)
    assert model.r_at()[0, 0] == -0.5
    assert notes == ("1 transitions can pay several rewards; the model pays their mean",)


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ModelError, match=r"no transition table env\.unwrapped\.P; FrozenLake"):
        from_gymnasium("CartPole-v1")
    with pytest.raises(ModelError, match="cannot make 'FrozenLak-v1'"):
        from_gymnasium("FrozenLak-v1")
    with pytest.raises(ModelError, match="fickle_passenger=False"):
        from_gymnasium("Taxi-v4", fickle_passenger=True)
    with pytest.raises(ModelError, match="the same 2 actions"):
        from_gymnasium(SimpleNamespace(P={0: {0: [], 1: []}, 1: {0: []}}))
    with pytest.raises(ModelError, match=r"frozenlake\(size = 5\)"):
        make("frozenlake", size=5)
