"""The parts in torch equal the reference's on ugly laws; policies of replicas; vectors and Fractions are no grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytheory.access import Key, KnownModel, Online, Requests
from polytheory.errors import SettingError
from polytheory.models import make
from polytheory.models.objectives import CVaR, Homeostasis, objective
from polytheory.models.return_law import return_law
from polytheory.models.stock import stock_problem
from polytheory.models.stock_grid import layout
from polytheory.reference.distributional import representations as reference
from polytheory.run import run
from polytheory.scaled.distributional import representations as scaled
from polytheory.scaled.distributional.distributional_dp import DistributionalValueIteration
from polytheory.streams import row_ids


def laws(seed):
    rng = np.random.default_rng(seed)
    atoms = rng.integers(-4, 5, (3, 2, 7)) / 2
    probs = rng.integers(0, 4, (3, 2, 7)) + 1e-300
    return atoms, probs / probs.sum(-1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_projections_agree(seed):
    atoms, probs = laws(seed)
    support = np.linspace(-1.5, 2.0, 6)  # some atoms lie beyond both ends
    own = scaled.categorical_projection(torch.tensor(atoms), torch.tensor(probs), torch.tensor(support)).numpy()
    assert np.abs(own - reference.categorical_projection(atoms, probs, support)).max() <= 1e-15
    assert np.abs(own.sum(-1) - 1).max() <= 1e-15
    own = scaled.quantile_projection(torch.tensor(atoms), torch.tensor(probs), 5).numpy()
    assert (own == reference.quantile_projection(atoms, probs, 5)).all()


def test_replicas_deploy_the_policy_of_the_plan():
    model = make("wager")
    done = run(DistributionalValueIteration("cvar:0.25"), KnownModel(model).replicate(2), progress=False)
    assert done.state.value.tolist() == pytest.approx([5.0, 5.0], abs=1e-12)
    for i in range(2):
        law = return_law(model, done.policy.replica(i))
        assert CVaR(0.25).of_return(law.atoms, law.probs) == pytest.approx(5.0, abs=1e-12)
    assert done.policy.mean_returns(model) == pytest.approx([5.75, 5.75], abs=1e-12)


def test_grids_are_for_scalar_floats():
    problem = stock_problem(make("wager"), exact=True)
    with pytest.raises(SettingError, match="exact=True"):
        layout(problem, objective("mean"), representation="categorical", atoms=None, stocks=None, stock_range=None)


def test_vector_stocks_agree_and_are_deployed():
    model = make("wager")
    rewards = np.stack([np.asarray(model.r), np.array([[[0, 1], [2, 0]], [[1, 1], [0, 3]]])], -1)
    made = DistributionalValueIteration(Homeostasis((6, 3)), representation="utility", rewards=rewards)
    done = run(made, KnownModel(model).replicate(2), progress=False)
    assert done.state.value.tolist() == pytest.approx([-2.53125] * 2, abs=1e-12)  # the exact solver's -81/32
    assert done.state.initial.tolist() == [[-6.0, -3.0]] * 2
    law = return_law(stock_problem(model, rewards=rewards), done.policy.replica(1))
    assert Homeostasis((6, 3)).of_return(law.atoms, law.probs) == pytest.approx(-2.53125, abs=1e-12)
    # a scalar access: the policy moves its stock by its own table
    traj = (
        Online(model)
        .replicate(2)
        .rollouts(
            done.policy,
            Requests(np.concatenate([row_ids(i, np.arange(50)) for i in range(2)]), 3),
            Key(0, "vectors", 0),
        )
    )
    after = np.concatenate([traj.states[:, 1:], traj.final_states[:, None]], axis=1)
    got = rewards[traj.states, traj.actions, after].sum(1)
    assert {tuple(x) for x in got.tolist()} <= set(law.as_dict())
