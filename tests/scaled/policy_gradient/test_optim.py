"""The optimisers in a hand-written loop make the steps of the methods; weights come back; state is saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polytheory.access import Key, Requests
from polytheory.access.gymnasium import VectorEnvs
from polytheory.errors import SettingError, UnknownNameError
from polytheory.scaled.policy_gradient.estimators import rewards_to_go
from polytheory.scaled.policy_gradient.harpg import Harpg, NHarpg
from polytheory.scaled.policy_gradient.n_pg_igt import NPgIgt
from polytheory.scaled.policy_gradient.optim import HarpgOptimizer, NPgIgtOptimizer
from polytheory.scaled.policy_gradient.torch_policy import TorchPolicy, flat_parameters
from polytheory.streams import row_ids

BATCH, TRUNCATION, STEPS = 3, 15, 4
# float64 throughout: two orders of summation over a hundred terms, four steps
SAME = {"rtol": 1e-10, "atol": 1e-11}


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()


def sample(net, access, purpose, t):
    """What a user's loop does: it knows the module only."""
    requests = Requests(row_ids(0, np.arange(BATCH)), TRUNCATION)
    return access.rollouts(TorchPolicy(net), requests, Key(0, purpose, t))


def terms(net, access):
    def of(traj):
        log_p = torch.log_softmax(net(traj.states.double()), -1).gather(2, traj.actions[..., None])[..., 0]
        psi = rewards_to_go(traj.rewards, traj.mask, gamma=access.spec.gamma)
        return torch.where(traj.mask, log_p, torch.zeros_like(log_p)), psi

    return of


def by_method(method, **settings):
    net, access = network(), VectorEnvs("CartPole-v1", BATCH)
    algorithm = method(TorchPolicy(net), truncation=TRUNCATION, batch=BATCH, **settings)
    state = algorithm.init(access, 0)
    for _ in range(STEPS):
        state, _ = algorithm.step(state, access)
    return state.theta[0]


@pytest.mark.parametrize("schedule", ["theorem", "constant-step"])
@pytest.mark.parametrize("by_closure", [False, True])
def test_n_pg_igt_is_the_method(schedule, by_closure):
    net, access = network(), VectorEnvs("CartPole-v1", BATCH)
    opt = NPgIgtOptimizer(net.parameters(), gamma0=0.3, schedule=schedule)
    for t in range(STEPS):

        def loss(t=t):
            log_p, psi = terms(net, access)(sample(net, access, "n-pg-igt/tau", t))
            loss = -(psi * log_p).sum() / BATCH
            loss.backward()
            return loss

        if by_closure:
            assert opt.step(loss) is not None
        else:
            with opt.lookahead():
                loss()
            opt.step()
    assert_close(flat_parameters(net.parameters()), by_method(NPgIgt, gamma0=0.3, schedule=schedule), **SAME)


@pytest.mark.parametrize(("method", "normalised"), [(Harpg, False), (NHarpg, True)])
def test_harpg_is_the_method(method, normalised):
    net, access = network(), VectorEnvs("CartPole-v1", BATCH)
    opt = HarpgOptimizer(net.parameters(), normalised=normalised, gamma0=0.01)
    for t in range(STEPS):
        batch = sample(net, access, "harpg/tau", t)
        with opt.between():
            hat = sample(net, access, "harpg/tau_hat", t)
        opt.step(terms(net, access), batch, hat)
    assert_close(flat_parameters(net.parameters()), by_method(method, gamma0=0.01), **SAME)


def test_weights_come_back_when_sampling_raises():
    net = network()
    for opt in (NPgIgtOptimizer(net.parameters()), HarpgOptimizer(net.parameters())):
        opt.theta_prev, opt.t = opt.theta - 1, 3
        own = opt.theta

        def fail(opt=opt, own=own):
            with opt.lookahead() if isinstance(opt, NPgIgtOptimizer) else opt.between():
                assert (opt.theta - own).abs().max() > 1e-3
                raise OSError("the sampler is gone")

        with pytest.raises(OSError, match="gone"):
            fail()
        assert torch.equal(opt.theta, own)


def test_state_dict_continues_exactly():
    def loop(net, opt, steps):
        x = torch.linspace(-1, 1, 20).view(5, 4).double()
        for _ in range(steps):
            opt.step(lambda: (net(x) ** 2).sum().backward())

    whole, halves = network(), network()
    loop(whole, NPgIgtOptimizer(whole.parameters()), 6)
    first = NPgIgtOptimizer(halves.parameters())
    loop(halves, first, 3)
    second = NPgIgtOptimizer(halves.parameters())
    second.load_state_dict(first.state_dict())
    loop(halves, second, 3)
    assert torch.equal(flat_parameters(whole.parameters()), flat_parameters(halves.parameters()))


def test_bad_input_is_named():
    net = network()
    with pytest.raises(SettingError, match="gamma0 = 0"):
        NPgIgtOptimizer(net.parameters(), gamma0=0.0)
    with pytest.raises(SettingError, match="eta0 = 2"):
        NPgIgtOptimizer(net.parameters(), eta0=2.0)
    with pytest.raises(UnknownNameError, match="constant"):
        HarpgOptimizer(net.parameters(), schedule="constnt")
    with pytest.raises(SettingError, match="unfreeze"):
        NPgIgtOptimizer([])
    with pytest.raises(SettingError, match="backward"):
        NPgIgtOptimizer(net.parameters()).step()
    opt = HarpgOptimizer(net.parameters())
    access = VectorEnvs("CartPole-v1", BATCH)
    opt.step(terms(net, access), sample(net, access, "x", 0))
    with pytest.raises(SettingError, match="batch_hat is missing"):
        opt.step(terms(net, access), sample(net, access, "x", 1))
