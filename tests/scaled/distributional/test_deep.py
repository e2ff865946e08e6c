"""The stock-conditioned quantile agent: loss and targets by hand, exact resume, and what it deploys against exact optima."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from polytheory.access import Online
from polytheory.access.gymnasium import VectorEnvs
from polytheory.conformance.resume import assert_resume_exact
from polytheory.errors import ObjectiveError, SettingError
from polytheory.lab.estimates import held_out_returns
from polytheory.models import make
from polytheory.models.gymnasium_tables import from_gymnasium
from polytheory.models.objectives import CVaR, Homeostasis, objective
from polytheory.models.return_law import return_law
from polytheory.scaled.distributional import deep, deep_policy
from polytheory.scaled.distributional.deep import StockQuantileAgent, targets
from polytheory.scaled.distributional.deep_network import hats, numbers, one_hot, quantile_huber
from polytheory.scaled.distributional.deep_policy import StockNetPolicy, best_played, best_starts

FEW = {"updates": 3, "batch": 4, "width": 8, "n_quantiles": 4, "minibatch": 8, "copy_every": 2}


@pytest.mark.parametrize("kappa", [0.1, 0.0])
def test_quantile_huber_by_explicit_sums(kappa):
    g = torch.Generator().manual_seed(0)
    theta, goal = (torch.randn(3, n, generator=g, dtype=torch.float64) for n in (4, 5))
    total = 0.0
    for row in range(3):
        for i in range(4):
            for j in range(5):
                u = float(goal[row, j] - theta[row, i])
                huber = 0.5 * u * u / 0.1 if abs(u) <= kappa else abs(u) - kappa / 2
                total += abs((2 * i + 1) / 8 - (u < 0)) * huber / 5 / 3
    assert float(quantile_huber(theta, goal, kappa)) == pytest.approx(total, rel=1e-12)


def test_quantile_huber_finds_quantiles():
    theta = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    goal = torch.arange(8, dtype=torch.float64)[None]
    optimiser = torch.optim.Adam([theta], lr=0.2)
    for _ in range(80):
        optimiser.zero_grad()
        quantile_huber(theta, goal, 0.01).backward()
        optimiser.step()
    # levels 1/8, 3/8, 5/8, 7/8 of eight atoms 0..7 lie between two of them: any point there is a quantile
    low, high = np.array([0, 2, 4, 6]), np.array([1, 3, 5, 7])
    found = theta.detach().numpy()[0]
    assert (found >= low - 0.2).all()
    assert (found <= high + 0.2).all()


def test_hats_interpolate():
    x = torch.tensor([-3.0, -2.0, -1.75, 0.5, 2.0, 7.0])
    found = hats(x, -2.0, 2.0, 5)
    nodes = torch.linspace(-2.0, 2.0, 5)
    # a layer behind them that holds a table's entries gives numpy's interpolation of that table
    assert np.allclose(found.numpy() @ (nodes**3).numpy(), np.interp(x, nodes, nodes**3), rtol=0, atol=1e-6) is True
    assert found.sum(-1).tolist() == [1.0] * 6


def test_what_the_network_sees():
    assert one_hot(3, 2)(1, torch.tensor([2])).tolist() == [[0, 0, 1, 0, 1, 0]]
    assert one_hot(2)(9, torch.tensor([0])).tolist() == [[1, 0]]
    seen = numbers(np.array([[2.0, 4.0]]), 1)(torch.tensor([1]), torch.tensor([[[1.0, 1.0]]]))
    assert seen.tolist() == [[0.5, 0.25, 0.0, 1.0]]


class Fixed:
    """A network with given quantiles for two actions: a sure 1, or 0 and 3."""

    span, bins = (-12.0, 0.0), 0

    def __call__(self, h, s, stocks):
        rows = torch.tensor([[1.0, 1.0], [0.0, 3.0]])
        return rows.expand(len(stocks), 2, 2)


def assert_targets():
    rewards, stocks = torch.tensor([2.0, 2.0, 2.0]).double(), torch.tensor([-3.0, -12.0, -3.0]).double()
    goes_on = torch.tensor([True, True, False])
    h, states = torch.ones(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    found = targets(CVaR(0.25), Fixed(), h, states, rewards, stocks, goes_on, 1.0)
    # c' = -1: E min(c' + G, 0) is 0 for the sure action and -1/2 for the other; c' = -10: 1 against 3/2 in the mean;
    # an end adds nothing. Quantile by quantile the maximum would be (1, 3), which neither action has
    assert found.tolist() == [[3.0, 3.0], [2.0, 5.0], [2.0, 2.0]]
    # gamma = 1/2: the risky action is the better one below c' = -2. From c = -4, c' = (-4 + 2) / (1/2) = -4; from -2.75 it
    # is -1.5. Undivided the first were -2, and with the reward undivided the second -3.5
    stocks = torch.tensor([-4.0, -2.75, -4.0]).double()
    found = targets(CVaR(0.25), Fixed(), h, states, rewards, stocks, goes_on, 0.5)
    assert found.tolist() == [[2.0, 3.5], [2.5, 2.5], [2.0, 2.0]]


def test_targets_choose_one_action_by_the_law_at_the_next_stock():
    assert_targets()


@pytest.mark.parametrize(
    "moved",
    [
        lambda c, r, gamma: c + r,
        lambda c, r, gamma: c,
        lambda c, r, gamma: c / gamma + r,
        lambda c, r, gamma: (c - r) / gamma,
    ],
)
def test_targets_with_another_stock_are_caught(monkeypatch, moved):
    monkeypatch.setattr(deep, "next_stock", moved)
    with pytest.raises(AssertionError):
        assert_targets()


def balance(gamma):
    """Largest error of ``c_0 + G_0 = gamma^t (c_t + G_t)`` with the policy's own stocks."""
    policy = StockNetPolicy(Fixed(), gamma, torch.tensor([-3.0]).double(), CVaR(0.25))
    rewards = torch.tensor([[1.0, -2.0, 4.0, 0.5], [0.0, 3.0, 1.0, 1.0]]).double()
    weights = gamma ** torch.arange(4).double()
    c, worst = policy.start(2), 0.0
    for t in range(4):
        to_go = rewards[:, t:] @ weights[: 4 - t]
        worst = max(worst, float((gamma**t * (c + to_go) - (-3.0 + rewards @ weights)).abs().max()))
        c = policy.update(c, t, None, None, rewards[:, t], None)
    return worst


def test_the_policy_keeps_the_balance_of_stock_and_rewards(monkeypatch):
    assert balance(0.5) <= 1e-14 * 30  # a dozen operations on numbers below 30
    monkeypatch.setattr(deep_policy, "next_stock", lambda c, r, gamma: c + r)
    assert balance(0.5) > 1


def test_the_initial_stock_is_the_best_of_the_network_or_the_best_played():
    # both actions of the fixed network: -c0 + E min(c0 + G, 0) / tau is best at the kinks; at tau = 1/2 a sure 1 is worth 1,
    # and 0 or 3 is worth 0
    stocks = best_starts(CVaR(0.5), Fixed(), torch.zeros(5, dtype=torch.int64))
    nodes = np.linspace(-12, 0, deep_policy.LEAST)
    worth = [-c + max(2 * min(c + 1, 0), min(c, 0) + min(c + 3, 0)) for c in nodes]
    best = sorted(worth, reverse=True)[: deep_policy.CANDIDATES]
    found = [dict(zip(nodes.tolist(), worth, strict=True))[c] for c in stocks.tolist()]
    assert found == pytest.approx(best, abs=1e-12)
    assert best_starts(objective("threshold:6"), Fixed(), torch.zeros(5)).tolist() == [-6.0]

    class Paid:
        """Returns 5 from stocks above -2, else 1."""

        def rollouts(self, policy, requests, key):
            n = len(requests.row_id)
            paid = torch.where(policy.start(n) > -2, 5.0, 1.0)[:, None].double()
            return dataclasses.make_dataclass("T", ["mask", "rewards"])(torch.ones(n, 1, dtype=torch.bool), paid)

    policies = [StockNetPolicy(Fixed(), 1.0, torch.tensor([c]).double(), CVaR(0.5)) for c in (-3.0, -1.0, -4.0)]
    assert best_played(policies, Paid(), 1, 0, 4) is policies[1]


@pytest.mark.parametrize(
    ("settings", "error", "expected"),
    [
        ({"stock_range": (0.0, 0.0)}, SettingError, "stock_range"),
        ({"stock_range": (0.0, float("inf"))}, SettingError, "two finite numbers"),
        ({"minibatch": 0}, SettingError, "minibatch"),
        ({"bins": 1}, SettingError, "bins"),
        ({"lr": 0.0}, SettingError, "lr must be positive"),
        ({"objective": "cvar:1.5"}, SettingError, r"lies in \(0, 1\]"),
        ({"objective": "quantile:0.5"}, ObjectiveError, "mixtures"),
        ({"objective": Homeostasis((1.0, 2.0))}, ObjectiveError, "vector rewards"),
    ],
)
def test_bad_settings_are_refused(settings, error, expected):
    with pytest.raises(error, match=expected):
        StockQuantileAgent(**settings)


def test_what_an_access_cannot_tell_is_asked_for():
    access = Online(make("riverswim", gamma=0.9, horizon=None)).replicate(1)
    with pytest.raises(SettingError, match="truncation"):
        StockQuantileAgent().init(access, 0)
    with pytest.raises(ObjectiveError, match="Lipschitz"):
        StockQuantileAgent("threshold:1", truncation=5).init(access, 0)
    with pytest.raises(SettingError, match="stock_range"):
        StockQuantileAgent().init(VectorEnvs("CartPole-v1", 2), 0)
    # rewards in [0, 1] and gamma = 0.9: returns up to 10
    low, high = StockQuantileAgent(truncation=5).init(access, 0).net.span
    assert (low, high) == (pytest.approx(-10 * access.spec.reward_range[1], rel=1e-12), 0)


@pytest.mark.parametrize("world", ["wager", "FrozenLake-v1", "CartPole-v1"])
def test_resume_is_exact(world):
    def access():
        return Online(make(world)).replicate(1) if world == "wager" else VectorEnvs(world, 3, horizon=6, gamma=1.0)

    made = StockQuantileAgent(stock_range=(-6.0, 0.0), **FEW)
    whole = assert_resume_exact(lambda: made, access, 2)
    assert whole.state.updates == 12
    assert bool(whole.state.goes_on.any())


def test_chunks_of_environments_play_the_rows_of_their_own_stocks():
    made = StockQuantileAgent(stock_range=(-6.0, 0.0), **FEW)
    states = []
    for n_envs in (4, 3, 8):
        access = VectorEnvs("FrozenLake-v1", n_envs, horizon=6, gamma=1.0)
        states.append(made.step(made.init(access, 0), access)[0])
    for name in ("states", "actions", "rewards", "stages", "goes_on"):
        assert torch.equal(getattr(states[0], name), getattr(states[1], name))
        assert torch.equal(getattr(states[0], name), getattr(states[2], name))


@pytest.fixture(scope="module")
def trained():
    """A learner on the wager, for CVaR of several shares."""
    access = Online(make("wager")).replicate(1)
    made = StockQuantileAgent(decay=10, minibatch=128, n_quantiles=16)
    state = made.init(access, 0)
    for _ in range(20):
        state, _ = made.step(state, access)
    return made, state, access


def deployed(trained, tau):
    """Exact CVaR of what is deployed."""
    made, state, access = trained
    law = return_law(make("wager"), made.deploy(state, CVaR(tau), access).on_arrays())
    return float(CVaR(tau).of_return(law.atoms, law.probs))


def test_one_network_deploys_near_the_optimum_for_several_shares(trained):
    # the optima are 4, 5, 129/16; nested CVaR stops at 4 for 1/4, and policies without a stock at 19/4
    assert deployed(trained, 0.1) == pytest.approx(4.0, abs=1e-12)
    assert deployed(trained, 0.25) > 4.75
    assert deployed(trained, 1.0) == pytest.approx(129 / 16, abs=1e-12)


def test_a_stock_that_stands_still_loses(trained, monkeypatch):
    monkeypatch.setattr(deep_policy, "next_stock", lambda c, r, gamma: c)
    # whatever was learned, this is a policy of stage and state: none has more than 19/4
    assert deployed(trained, 0.25) <= 4.75 + 1e-12


def test_the_exact_law_is_that_of_episodes_played_through_gymnasium():
    options = {"reward_schedule": (10, -10, -1), "success_rate": 0.6}
    model = from_gymnasium("FrozenLake-v1", gamma=0.9, horizon=6, **options)
    access = VectorEnvs("FrozenLake-v1", 100, gamma=0.9, horizon=6, **options)
    made = StockQuantileAgent(stock_range=(-10.0, 16.0), **FEW)
    state, _ = made.step(made.init(access, 0), access)
    policy = made.deploy(state, CVaR(0.5))
    law = return_law(model, policy.on_arrays())
    n = 600
    returns = held_out_returns(access, policy, n, 6)
    assert len(np.unique(np.round(returns, 9))) >= 3
    below = np.array([(returns <= x + 1e-9).mean() for x in law.atoms])
    # Dvoretzky, Kiefer and Wolfowitz: the largest difference exceeds this with a probability of at most 1e-6
    assert np.abs(below - np.cumsum(law.probs)).max() <= np.sqrt(np.log(2e6) / (2 * n))


def test_a_threshold_between_the_possible_returns_is_reached_more_often_than_without_a_stock():
    model = make("wager")
    made = StockQuantileAgent("threshold:5.5", bins=13)
    access = Online(model).replicate(1)
    state = made.init(access, 1)
    for _ in range(20):
        state, _ = made.step(state, access)
    law = return_law(model, made.policy(state).on_arrays())
    # returns are whole: 5.5 is the threshold 6, whose optimum is 57/64; policies without a stock reach 27/32
    assert float(objective("threshold:6").of_return(law.atoms, law.probs)) > 27 / 32 + 1e-9
