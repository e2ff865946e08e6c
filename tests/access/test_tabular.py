"""Access to tabular models: the law of rollouts, the meter, and what is refused."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_oracles import dense, paths, reward_atoms, total_variation, trajectory_law
from numpy.testing import assert_allclose, assert_array_equal

from polytheory.access import (
    GenerativeModel,
    HybridResets,
    Key,
    KnownModel,
    LocalSimulator,
    MuReset,
    OfflineData,
    Online,
    Requests,
)
from polytheory.access.tabular import inverse_cdf
from polytheory.conformance import strategies
from polytheory.errors import AccessError, NotStochasticError, SettingError
from polytheory.models import RewardAtoms, TabularMDP, make
from polytheory.models.tabular import by_stage
from polytheory.policies import Memoryless, Mixture, TabularPolicy
from polytheory.streams import row_ids, uniforms

KEY = Key(0, "test", 0)
TWO = make("two-state")


def ask(n, truncation=3, **options):
    return Requests(row_ids(0, np.arange(n)), truncation, **options)


# ---- the law ---------------------------------------------------------------------------------------------------------

ALPHA = 1e-6  # chance that one of the fixed-seed comparisons below rejects a perfect sampler
ROWS = 20_000


def distance_bound(cells, n):
    """With probability 1 - ALPHA the empirical law of n draws on so many cells is this close in total variation
    [weissman2003, Theorem 2.1]: 2^cells exp(-2 n tv^2) = ALPHA."""
    return math.sqrt((cells * math.log(2) + math.log(1 / ALPHA)) / (2 * n))


def sampled_law(rows):
    return {path: k / rows.n for path, k in Counter(paths(rows)).items()}


LAW = RewardAtoms(np.array([-1.0, 0.0, 2.0]), np.array([[[0.2, 0.5, 0.3], [0, 1, 0]], [[0.5, 0, 0.5], [1, 0, 0]]]))
STOPPING = np.array([[[0.5, 0.3, 0.2], [0.1, 0.0, 0.9]], [[0.4, 0.6, 0.0], [0.0, 0.5, 0.5]], [[0, 0, 1], [0, 0, 1]]])
SPLIT = TabularPolicy(np.array([[0.9, 0.1], [0.2, 0.8]]))
MODELS = {
    "plain": TWO,
    "random rewards": TabularMDP(TWO.P, LAW.probs @ LAW.values, TWO.mu, gamma=0.8, reward_law=LAW),
    "terminal": TabularMDP(
        STOPPING, np.array([[1.0, 2], [3, 4], [0, 0]]), np.array([0.6, 0.3, 0.1]), gamma=0.9,
        terminal=np.array([False, False, True]),
    ),
    "staged": TabularMDP(np.stack([TWO.P, TWO.P[::-1]]), by_stage(np.stack([TWO.r, -TWO.r]), 2), TWO.mu, horizon=2),
    "rewards by transition": TabularMDP(TWO.P, np.arange(8.0).reshape(2, 2, 2), TWO.mu, gamma=0.9),
    "sparse": make("river", S=3, sparse=True),
}  # fmt: skip


def policy_of(model):
    if model.S == 2:
        return Mixture((SPLIT, TabularPolicy.uniform(2, 2)), np.array([0.3, 0.7]))
    return TabularPolicy(np.tile([0.3, 0.7], (model.S, 1)))


@pytest.mark.parametrize("case", MODELS)
def test_rollouts_have_the_law_of_the_model(case):
    model = MODELS[case]
    policy = policy_of(model)
    exact = trajectory_law(model, policy, 2)
    rows = Online(model).rollouts(policy, ask(ROWS, truncation=2), KEY)
    assert set(sampled_law(rows)) <= set(exact)
    assert total_variation(sampled_law(rows), exact) < distance_bound(len(exact), ROWS)


def test_the_bound_tells_wrong_samplers_apart():
    """Laws a little off: another start, another policy, successors by the wrong stage."""
    exact = trajectory_law(TWO, SPLIT, 2)
    bound = distance_bound(len(exact), ROWS)
    other = [
        trajectory_law(TabularMDP(TWO.P, TWO.r, [0.5, 0.5], gamma=0.8), SPLIT, 2),
        trajectory_law(TWO, TabularPolicy(np.array([[0.8, 0.2], [0.2, 0.8]])), 2),
        trajectory_law(TabularMDP(TWO.P[::-1], TWO.r, TWO.mu, gamma=0.8), SPLIT, 2),
    ]
    assert min(total_variation(exact, x) for x in other) > 2 * bound


def test_single_transitions_have_the_law_of_the_model():
    model = MODELS["random rewards"]
    s, a = np.zeros(ROWS, dtype=np.int64), np.zeros(ROWS, dtype=np.int64)
    r, s2 = GenerativeModel(model).sample(s, a, KEY)
    exact = {
        (x, y): q * dense(model)[0, 0, y] for y in (0, 1) for x, q in reward_atoms(model, 0, 0, 0, y)
    }  # the reward is independent of the next state
    found = {pair: k / ROWS for pair, k in Counter(zip(r.tolist(), s2.tolist(), strict=True)).items()}
    assert total_variation(found, exact) < distance_bound(len(exact), ROWS)
    assert total_variation({(x, 0): p for (x, _), p in exact.items()}, exact) > distance_bound(len(exact), ROWS)


# ---- the rows --------------------------------------------------------------------------------------------------------

ANY = strategies.tabular_mdps(sparse=None, transition_rewards=True, random_rewards=True)


@given(model=ANY, data=st.data())
def test_rows_are_possible_and_masked(model, data):
    policy = data.draw(strategies.tabular_policies(model))
    access, t_max = Online(model), data.draw(st.integers(1, 6))
    rows = access.rollouts(policy, ask(5, t_max), Key(data.draw(st.integers(0, 99)), "x", 0))
    P = dense(model)
    assert rows.mask.shape == (5, t_max)
    for i in range(5):
        n = int(rows.lengths[i])
        assert_array_equal(rows.mask[i], np.arange(t_max) < n)
        after = [*rows.states[i, 1:n], rows.final_states[i]] if n else [rows.final_states[i]]
        assert model.mu[rows.states[i, 0] if n else rows.final_states[i]] > 0
        for t in range(n):
            s, a, y = rows.states[i, t], rows.actions[i, t], after[t]
            assert not model.terminal[s]
            assert P[s, a, y] > 0
            assert policy.table[s, a] > 0
            assert_allclose(rows.log_probs_sampler[i, t], np.log(policy.table[s, a]), rtol=1e-15)
            assert rows.rewards[i, t] in [x for x, _ in reward_atoms(model, 0, s, a, y)]
        assert rows.finished[i] == model.terminal[rows.final_states[i]]
        assert rows.finished[i] or n == t_max
    for column in (rows.states, rows.actions, rows.rewards, rows.log_probs_sampler):
        assert not column[~rows.mask].any()
    assert access.meter.total("episodes") == 5
    assert access.meter.total("transitions") == rows.mask.sum()
    assert access.meter.total("resets") == 0


@given(model=ANY, data=st.data())
def test_a_row_depends_on_its_id_only(model, data):
    policy = data.draw(strategies.tabular_policies(model))
    whole = Online(model).rollouts(policy, ask(6), KEY)
    some = data.draw(st.permutations(range(6)))[: data.draw(st.integers(1, 6))]
    part = Online(model).rollouts(policy, Requests(row_ids(0, np.array(some)), 3), KEY)
    longer = Online(model).rollouts(policy, ask(6, 5), KEY)
    for name in ("states", "actions", "rewards", "mask", "log_probs_sampler"):
        assert_array_equal(getattr(part, name), getattr(whole, name)[some])
        assert_array_equal(getattr(longer, name)[:, :3], getattr(whole, name))
    assert_array_equal(part.final_states, whole.final_states[some])


@settings(max_examples=30)
@given(model=ANY, data=st.data())
def test_mixtures_and_tables_are_sampled_alike_in_torch(model, data):
    """Draw for draw, also for a policy with memory that only speaks NumPy."""
    policy = data.draw(st.one_of(strategies.tabular_policies(model), strategies.mixtures(model)))
    mine = Online(model).rollouts(policy, ask(4), KEY)
    batched = Online(model).replicate(1).rollouts(Torch(policy), ask(4), KEY)
    for name in ("states", "actions", "rewards", "mask", "final_states", "finished"):
        assert_array_equal(getattr(batched, name).numpy(), getattr(mine, name))


class Torch:
    """A NumPy policy that speaks torch."""

    def __init__(self, policy):
        self.policy = policy

    def start(self, n):
        return self.policy.start(n)

    def probs(self, m, h, s):
        return torch.as_tensor(np.array(self.policy.probs(m, h, s.numpy())))

    def update(self, m, h, *rest):
        return self.policy.update(m, h, *(x.numpy() for x in rest))


class Spy(Memoryless):
    """Remembers what it was asked."""

    def __init__(self):
        self.seen = []

    def probs(self, m, h, s):
        self.seen.append((h, s.copy()))
        return np.full((len(s), 2), 0.5)


def test_the_horizon_ends_an_episode_and_a_truncation_does_not():
    staged = MODELS["staged"]
    assert Online(staged).rollouts(SPLIT, ask(2, truncation=9), KEY).mask.shape == (2, 2)
    assert Online(staged).rollouts(SPLIT, ask(2, truncation=9), KEY).finished.all()
    assert not Online(staged).rollouts(SPLIT, ask(2, truncation=1), KEY).finished.any()
    assert not Online(TWO).rollouts(SPLIT, ask(2, truncation=9), KEY).finished.any()
    spy = Spy()
    Online(staged).rollouts(spy, ask(2), KEY)
    assert [h for h, _ in spy.seen] == [0, 1]


def test_an_episode_that_starts_at_its_end_takes_no_step():
    model = MODELS["terminal"]
    ended = TabularMDP(model.P, model.r, [0, 0, 1], gamma=0.9, terminal=model.terminal)
    access = Online(ended)
    rows = access.rollouts(policy_of(ended), ask(3), KEY)
    assert not rows.mask.any()
    assert rows.finished.all()
    assert_array_equal(rows.final_states, 2)
    assert (access.meter.total("episodes"), access.meter.total("transitions")) == (3, 0)


@given(data=st.data(), n=st.integers(1, 6))
def test_inverse_cdf_is_the_first_interval_above(data, n):
    probs = data.draw(strategies.distributions(n))
    u = np.array(data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5)))
    drawn = inverse_cdf(np.tile(probs, (len(u), 1)), u)
    for x, k in zip(u, drawn, strict=True):
        assert probs[k] > 0
        assert probs[:k].sum() <= x + 1e-15
        assert x < probs[: k + 1].sum() + 1e-15


def test_inverse_cdf_never_draws_what_is_impossible():
    """A row that sums to a little less than 1, and the largest uniform there is."""
    probs = np.array([[0.1] * 10 + [0.0]])
    assert np.cumsum(probs)[-1] < 1
    assert inverse_cdf(probs, np.array([1 - 2.0**-53]))[0] == 9
    assert inverse_cdf(np.array([[0.0, 1.0]]), np.array([0.0]))[0] == 1


# ---- grants ----------------------------------------------------------------------------------------------------------

EXPLORE = np.array([0.0, 1.0])
ROWS_OF_DATA = Online(TWO).rollouts(SPLIT, ask(2), KEY)
ACCESSES = {
    "Online": Online(TWO),
    "MuReset": MuReset(TWO, reset=EXPLORE),
    "LocalSimulator": LocalSimulator(TWO),
    "HybridResets": HybridResets(TWO, reset=EXPLORE),
    "GenerativeModel": GenerativeModel(TWO),
    "KnownModel": KnownModel(TWO, reset=EXPLORE),
    "OfflineData": OfflineData(TWO, ROWS_OF_DATA),
}
QUESTIONS = {
    "MODEL": lambda access: access.model,
    "SAMPLE": lambda access: access.sample(np.array([0]), np.array([1]), KEY),
    "LOCAL_RESET": lambda access: access.rollouts(SPLIT, ask(1, start=np.array([0])), KEY),
    "MU_RESET": lambda access: access.reset_starts(KEY, row_ids(0, 0)),
    "EPISODE": lambda access: access.rollouts(SPLIT, ask(1), KEY),
    "DATA": lambda access: access.data,
}
GRANTED = {
    "Online": {"EPISODE"},
    "MuReset": {"EPISODE", "MU_RESET"},
    "LocalSimulator": {"EPISODE", "LOCAL_RESET"},
    "HybridResets": {"EPISODE", "LOCAL_RESET", "MU_RESET"},
    "GenerativeModel": {"EPISODE", "LOCAL_RESET", "SAMPLE"},
    "KnownModel": {"EPISODE", "LOCAL_RESET", "MU_RESET", "SAMPLE", "MODEL"},
    "OfflineData": {"DATA"},
}


@pytest.mark.parametrize("name", ACCESSES)
@pytest.mark.parametrize("question", [q for q in QUESTIONS if q != "DATA"])
def test_what_is_not_granted_is_refused(name, question):
    access = ACCESSES[name].fresh()
    if question in GRANTED[name]:
        QUESTIONS[question](access)
        return
    asked = "EPISODE" if (name, question) == ("OfflineData", "LOCAL_RESET") else question  # what is missing first
    with pytest.raises(
        AccessError, match="never drawn" if (name, question) == ("MuReset", "LOCAL_RESET") else asked
    ) as caught:
        QUESTIONS[question](access)
    assert name in str(caught.value)
    assert not any(access.meter.total(counter) for counter in access.meter.NAMES)  # a refusal costs nothing


def test_data_is_what_was_given():
    assert ACCESSES["OfflineData"].data is ROWS_OF_DATA
    assert not hasattr(ACCESSES["Online"], "data")


def test_an_access_tells_no_more_than_its_spec():
    spec = Online(TWO).spec
    assert (spec.S, spec.A, spec.horizon, spec.gamma, spec.reward_range) == (2, 2, None, 0.8, (0.0, 1.0))
    assert spec.r is None
    assert_array_equal(Online(TWO, known_rewards=True).spec.r, TWO.r)
    assert_allclose(KnownModel(MODELS["staged"]).spec.r, np.stack([TWO.r, -TWO.r]), rtol=1e-15)


def test_local_resets_reach_visited_states_only():
    """State 2 of a one-way walk is visited in the second step at the earliest."""
    P = np.array([[[0, 1, 0]], [[0, 0, 1]], [[0, 0, 1.0]]])
    walk = TabularMDP(P, np.zeros((3, 1)), [1.0, 0, 0], gamma=0.9)
    policy, there = TabularPolicy(np.ones((3, 1))), np.array([2])
    for access, stand in (
        (LocalSimulator(walk), lambda x: x),
        (LocalSimulator(walk).replicate(2), lambda x: np.repeat(x, 2)),
    ):
        speak = Torch(policy) if access.replicas == 2 else policy
        ids = row_ids(np.arange(access.replicas), 0)
        with pytest.raises(AccessError, match=r"2 was never visited|never visited state 2"):
            access.rollouts(speak, Requests(ids, 1, start=stand(there)), KEY)
        access.rollouts(speak, Requests(ids, 1), KEY)
        with pytest.raises(AccessError):
            access.rollouts(speak, Requests(ids, 1, start=stand(there)), KEY)
        access.rollouts(speak, Requests(ids, 2), KEY)
        saved = access.state_dict()
        rows = access.rollouts(speak, Requests(ids, 1, start=stand(there)), KEY)
        assert np.all(np.asarray(rows.states) == 2)
        assert access.meter.resets.tolist() == [1] * access.replicas
        again = access.fresh() if access.replicas == 1 else LocalSimulator(walk).replicate(2)
        with pytest.raises(AccessError):
            again.rollouts(speak, Requests(ids, 1, start=stand(there)), KEY)
        again.load_state_dict(saved)
        again.rollouts(speak, Requests(ids, 1, start=stand(there)), KEY)
        assert GenerativeModel(walk).rollouts(policy, ask(1, 1, start=there), KEY).states[0, 0] == 2


def test_visits_of_one_replica_are_not_those_of_another():
    """Two replicas, of which only one ever sees state 1."""
    P = np.zeros((2, 2, 2))
    P[:, 0, 0] = P[:, 1, 1] = 1
    access = LocalSimulator(TabularMDP(P, np.zeros((2, 2)), [1.0, 0.0], gamma=0.9)).replicate(2)

    class Each(Memoryless):
        def probs(self, m, h, s):
            return torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)

    ids = row_ids(np.arange(2), 0)
    access.rollouts(Each(), Requests(ids, 2), KEY)
    access.rollouts(Each(), Requests(ids, 2, start=np.array([0, 1])), KEY)
    with pytest.raises(AccessError, match="replica 0 never visited state 1"):
        access.rollouts(Each(), Requests(ids, 2, start=np.array([1, 0])), KEY)


def test_exploratory_resets():
    access = MuReset(TWO, reset=EXPLORE)
    with pytest.raises(AccessError, match="state 1 was never drawn by reset_starts"):
        access.rollouts(SPLIT, ask(1, start=np.array([1])), KEY)
    access.rollouts(SPLIT, ask(50), KEY)  # visits both states, which MU_RESET does not care about
    with pytest.raises(AccessError, match="never drawn"):
        access.rollouts(SPLIT, ask(1, start=np.array([1])), KEY)
    starts = access.reset_starts(KEY, row_ids(0, np.arange(4)))
    assert_array_equal(starts, 1)
    rows = access.rollouts(SPLIT, ask(4, start=starts), KEY)
    assert_array_equal(rows.states[:, 0], 1)
    assert access.meter.total("resets") == 4
    staged = MuReset(MODELS["staged"], reset=np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert [int(staged.reset_starts(KEY, row_ids(0, 0), h=h)[0]) for h in (0, 1)] == [0, 1]


def test_resets_are_drawn_from_their_law():
    law, n = np.array([0.3, 0.7]), ROWS
    starts = MuReset(TWO, reset=law).reset_starts(KEY, row_ids(0, np.arange(n)))
    # Hoeffding at level ALPHA
    assert abs(starts.mean() - 0.7) < math.sqrt(math.log(2 / ALPHA) / (2 * n))
    assert_array_equal(starts, uniforms(*KEY, row_ids(0, np.arange(n)), 1)[:, 0] >= 0.3)


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (lambda: MuReset(TWO), SettingError, "MuReset needs its reset distribution"),
        (lambda: MuReset(TWO, reset=np.ones(3) / 3), SettingError, r"reset must end in S = 2; got shape \[3\]"),
        (lambda: MuReset(TWO, reset=np.array([0.5, 0.4])), NotStochasticError, r"reset sums to 0\.9"),
        (lambda: KnownModel(TWO).reset_starts(KEY, row_ids(0, 0)), SettingError, "no reset distribution"),
        (lambda: Online(TWO).rollouts(SPLIT, ask(1, truncation=0), KEY), SettingError, "truncation = 0"),
        (
            lambda: GenerativeModel(TWO).rollouts(SPLIT, ask(1, start=np.array([2])), KEY),
            SettingError, r"start must hold 1 states in \[0, 2\); got \[2\]",
        ),
        (
            lambda: GenerativeModel(TWO).rollouts(SPLIT, ask(1, start=np.array([-1])), KEY),
            SettingError, r"got \[-1\]",
        ),
        (
            lambda: GenerativeModel(TWO).check_starts(np.array([0]), 2),
            SettingError, "start must hold 2 states",
        ),
        (
            lambda: GenerativeModel(TWO).replicate(1).rollouts(Torch(SPLIT), ask(1, start=np.array([5])), KEY),
            SettingError, r"got \[5\]",
        ),
        (
            lambda: Online(TWO).replicate(1).rollouts(Torch(SPLIT), ask(1, start=np.array([0])), KEY),
            AccessError, "LOCAL_RESET",
        ),
        (lambda: GenerativeModel(TWO).sample(np.array([2]), np.array([0]), KEY), SettingError, r"s must lie in \[0, 2\)"),
        (lambda: GenerativeModel(TWO).sample(np.array([0]), np.array([-1]), KEY), SettingError, "a must lie in .*got -1"),
        (lambda: Online(TWO).replicate(0), SettingError, "at least 1 replica"),
    ],
)  # fmt: skip
def test_bad_questions(question, error, message):
    with pytest.raises(error, match=message):
        question()
