"""The stock-conditioned quantile agent: its loss and targets by hand, exact resume, and what it deploys against the optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytheory.access import Online
from polytheory.errors import ObjectiveError, SettingError
from polytheory.models import make
from polytheory.models.objectives import CVaR
from polytheory.models.return_law import return_law
from polytheory.run import run
from polytheory.scaled.distributional.deep import StockQuantileAgent, one_hot, quantile_huber, targets


def agent(**settings):
    return StockQuantileAgent((-12.0, 0.0), 3, one_hot(2, 3), "cvar:0.25", horizon=3, **settings)


def test_quantile_huber_by_explicit_sums():
    g = torch.Generator().manual_seed(0)
    theta, goal = (torch.randn(3, n, generator=g, dtype=torch.float64) for n in (4, 5))
    total = 0.0
    for row in range(3):
        for i in range(4):
            for j in range(5):
                u = float(goal[row, j] - theta[row, i])
                huber = 0.5 * u * u if abs(u) <= 0.1 else 0.1 * (abs(u) - 0.05)
                total += abs((2 * i + 1) / 8 - (u < 0)) * huber / 0.1 / 5 / 3
    assert float(quantile_huber(theta, goal, 0.1)) == pytest.approx(total, rel=1e-12)


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


class Fixed:
    """A network with given quantiles for two actions: a sure 1, or 0 and 3."""

    def __call__(self, observations, stocks):
        rows = torch.tensor([[1.0, 1.0], [0.0, 3.0]])
        return rows.expand(len(stocks), 2, 2)


def test_targets_choose_one_action_by_the_law_at_the_next_stock():
    made = agent(n_quantiles=2)
    rewards, stocks = torch.tensor([2.0, 2.0, 2.0]).double(), torch.tensor([-3.0, -12.0, -3.0]).double()
    goes_on = torch.tensor([True, True, False])
    found = targets(made, Fixed(), torch.zeros(3, 6), rewards, stocks, goes_on)
    # c' = -1: E min(c' + G, 0) is 0 for the sure action and -1/2 for the other; c' = -10: 1 against 3/2 in the mean;
    # an end adds nothing. Quantile by quantile the maximum would be (1, 3), which neither action has
    assert found.tolist() == [[3.0, 3.0], [2.0, 5.0], [2.0, 2.0]]


def test_bad_settings_are_refused():
    with pytest.raises(SettingError, match="stock_range"):
        StockQuantileAgent((0.0, 0.0), 3, one_hot(2))
    with pytest.raises(SettingError, match="minibatch"):
        agent(minibatch=0)
    with pytest.raises(ObjectiveError, match="mixtures"):
        StockQuantileAgent((-1.0, 0.0), 3, one_hot(2), "quantile:0.5")


def test_resume_is_exact(tmp_path):
    made = agent(updates=3, batch=4, width=8, n_quantiles=4, minibatch=8, copy_every=2)
    access = Online(make("wager"))
    whole = run(made, access.fresh().replicate(1), steps=4, progress=False)
    run(made, access.fresh().replicate(1), steps=2, checkpoint=tmp_path, progress=False)
    again = run(made, access.fresh().replicate(1), steps=4, checkpoint=tmp_path, progress=False)
    for name, x in whole.state.net.state_dict().items():
        assert torch.equal(x, again.state.net.state_dict()[name])


def test_one_network_deploys_near_the_optimum_for_several_shares():
    model = make("wager")
    made = agent(decay=20, lr=2e-3, minibatch=128)
    access = Online(model).replicate(1)
    state = made.init(access, 0)
    for _ in range(40):
        state, _ = made.step(state, access)
    found = {}
    for tau in (0.1, 0.25, 1.0):
        law = return_law(model, made.deploy(state, CVaR(tau)).on_arrays())
        found[tau] = float(CVaR(tau).of_return(law.atoms, law.probs))
    # the optima are 4, 5, 129/16; nested CVaR stops at 4 for 1/4, and policies without a stock at 19/4
    assert found[0.1] == pytest.approx(4.0, abs=1e-12)
    assert found[0.25] > 4.75
    assert found[1.0] == pytest.approx(129 / 16, abs=1e-12)
