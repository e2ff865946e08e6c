"""The deep search end to end in tiny form: phases, thresholds, exact resume, learning; its parts against other people's."""

from __future__ import annotations

from dataclasses import replace

import cma
import numpy as np
import pytest
import torch

from polytheory.access import Key, Requests
from polytheory.access.worlds import Worlds
from polytheory.conformance.resume import assert_resume_exact
from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.physics import CartPole, Pendulum
from polytheory.run import run
from polytheory.scaled.robust.deep_adversary import CmaEs, Grid, constants, fresh_search, grid_points
from polytheory.scaled.robust.deep_candidate import Candidate
from polytheory.scaled.robust.deep_dqn import Dqn
from polytheory.scaled.robust.deep_iwocs import DeepIwocs, DeepTraining, verdict
from polytheory.scaled.robust.deep_learners import transitions
from polytheory.scaled.robust.deep_networks import Mlp, adam
from polytheory.scaled.robust.deep_sac import Sac

FEW = {"iterations": 2, "updates": 4, "batch": 8, "hidden": 4, "episodes": 2}
SMALL = {"training": FEW, "worlds": 2, "generations": 2, "population": 4, "episodes": 2, "fresh": 3}


# ---- networks and Adam against torch's own -------------------------------------------------------------------------


def test_networks_are_stacks_of_linear_layers():
    net, x = Mlp((3, 5, 5, 2), copies=2), torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    theta = net.init(torch.Generator().manual_seed(1))
    assert len(theta) == net.n_parameters
    at, layers = 0, []
    for i, o in ((3, 5), (5, 5), (5, 2)):
        W, b = theta[at : at + 2 * i * o].view(2, i, o), theta[at + 2 * i * o : at + 2 * (i + 1) * o].view(2, o)
        at += 2 * (i + 1) * o
        layers.append((W, b))
    for k in range(2):
        modules = []
        for W, b in layers:
            linear = torch.nn.Linear(*W.shape[1:])
            linear.weight.data, linear.bias.data = W[k].T.clone(), b[k].clone()
            modules += [linear, torch.nn.ReLU()]
        torch.testing.assert_close(net(theta, x)[k], torch.nn.Sequential(*modules[:-1])(x))


def test_adam_is_torchs():
    g = torch.Generator().manual_seed(0)
    ours, moments = torch.randn(6, generator=g).double(), torch.zeros(2, 6).double()
    theirs = ours.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.01, eps=1e-5)
    for t in range(1, 30):
        gradient = torch.randn(6, generator=g).double()
        adam(ours, gradient, moments, t, 0.01)
        theirs.grad = gradient.clone()
        optimiser.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)


# ---- the adversary -------------------------------------------------------------------------------------------------


def test_the_gaussian_moves_as_in_the_package_of_its_author():
    options = {"popsize": 12, "CMA_active": False, "verbose": -9, "seed": 5}
    theirs = cma.CMAEvolutionStrategy([0.5, 0.5, 0.5], 0.5, options)
    known = constants(12, 3)  # the package has moved on from two of the tutorial's constants
    np.testing.assert_allclose(theirs.sp.weights.positive_weights, known.w)
    np.testing.assert_allclose([theirs.sp.c1, theirs.sp.cmu], [known.c_1, known.c_mu])
    theirs.adapt_sigma.initialize(theirs)
    theirs.adapt_sigma.cs, theirs.adapt_sigma.damps, theirs.sp.cc = known.c_sigma, known.damping, known.c_c
    ours, state = CmaEs(20, 12), replace(fresh_search(3), C=np.array(theirs.C))  # theirs is 1e-5 off the unit matrix
    target, scale = np.array([0.2, 0.9, 0.4]), np.array([1.0, 30.0, 5.0])
    for _ in range(12):
        x = np.array(theirs.ask())
        f = ((x - target) ** 2 * scale).sum(-1)
        theirs.tell(list(x), list(f))
        state = ours.tell(state, x, f)
        np.testing.assert_allclose(state.mean, theirs.mean, rtol=1e-9)
        np.testing.assert_allclose(state.sigma, theirs.sigma, rtol=1e-9)
        np.testing.assert_allclose(state.C, theirs.C, rtol=1e-7, atol=1e-12)


def test_the_worst_pendulum_of_a_fixed_controller_is_that_of_the_grid():
    class Swing:
        start = update = staticmethod(lambda *given: None)

        def act(self, m, h, s, u):
            upright = s[:, :1] > 0.8
            return torch.where(upright, (-6 * s[:, 1:2] - s[:, 2:]).clamp(-1, 1), torch.sign(s[:, 2:]))

    worlds, key = Worlds(Pendulum(), truncation=60), Key(0, "controller", 0)
    points = worlds.low + (worlds.high - worlds.low) * grid_points(9, 2)
    worst = worlds.returns(Swing(), points, key, 4).mean(-1).min()
    search, state = CmaEs(8, 12), fresh_search(2)
    from polytheory.streams import uniforms

    while not search.done(state):
        x = search.ask(state, uniforms(0, "ask", state.generation, np.arange(12), 4))
        where = worlds.low + (worlds.high - worlds.low) * np.clip(x, 0, 1)
        state = search.tell(state, x, worlds.returns(Swing(), where, key, 4).mean(-1))
    assert state.value <= worst
    assert ((state.x >= 0) & (state.x <= 1)).all()


def test_a_grid_has_its_corners_and_one_point_is_the_middle():
    np.testing.assert_array_equal(grid_points(2, 2), [[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_array_equal(Grid(1).ask(fresh_search(2), np.zeros((1, 0))), [[0.5, 0.5]])


# ---- learners ------------------------------------------------------------------------------------------------------


def test_a_cut_goes_on_and_an_end_does_not():
    worlds = Worlds(CartPole(), truncation=20)
    traj = worlds.rollouts(Dqn(hidden=4).explorer(Dqn(hidden=4).init(worlds, 0), worlds), Requests(np.arange(6), 20),
                           Key(0, "x", 0))  # fmt: skip
    found = transitions(traj)
    assert len(found["rewards"]) == int(traj.mask.sum())
    assert int((~found["goes_on"]).sum()) == int(traj.finished.sum())
    at = 0
    for i, length in enumerate(traj.mask.sum(-1).tolist()):
        last = at + length - 1
        torch.testing.assert_close(found["after"][last], traj.final_states[i].float())
        torch.testing.assert_close(found["after"][at:last], found["observations"][at + 1 : last + 1])
        at += length


@pytest.mark.parametrize(("learner", "system"), [(Dqn, CartPole), (Sac, Pendulum)])
def test_one_update_is_the_formula_on_its_batch(learner, system):
    """The critics' step, recomputed with torch modules' machinery: autograd on the written-out loss and torch's Adam."""
    worlds, made = Worlds(system(), truncation=10, gamma=0.9), learner(batch=16, hidden=8, updates=1, polyak=0.5)
    state = made.init(worlds, 1)
    before = {k: x.clone() for k, x in state.theta.items()}
    state.replay = transitions(worlds.rollouts(made.explorer(state, worlds), Requests(np.arange(8), 10), Key(0, "", 0)))
    g = torch.Generator().manual_seed(3)
    batch = next(made._batches(state.replay, g))
    noise = torch.Generator()
    noise.set_state(g.get_state())
    state.updates = 1
    made.update(state, worlds, batch, g)
    net, theta = made.networks(worlds)["critic"], before["critic"].clone().requires_grad_()
    n, s, after = 16, batch["observations"], batch["after"]
    y = torch.zeros(net.copies, n)
    if learner is Dqn:
        online, target = net(before["critic"], after), net(before["target"], after)
        for i in range(n):
            a = int(torch.minimum(online[0, i], online[1, i]).argmax())
            go = 0.9 * min(target[0, i, a], target[1, i, a]) if batch["goes_on"][i] else 0.0
            y[:, i] = batch["rewards"][i] + go
        q = torch.stack([net(theta, s)[:, i, int(batch["actions"][i])] for i in range(n)], -1)
    else:
        z = torch.randn(2, n, 1, generator=noise)
        out = made.networks(worlds)["actor"](before["actor"], after)[0]
        std = torch.exp(-5 + 3.5 * (torch.tanh(out[:, 1:]) + 1))
        law = torch.distributions.TransformedDistribution(
            torch.distributions.Normal(out[:, :1], std), [torch.distributions.TanhTransform()]
        )
        a = torch.tanh(out[:, :1] + std * z[0])
        log_p = law.log_prob(a.double()).float()[:, 0]
        target = net(before["target"], torch.cat([after, a], -1))[..., 0]
        v = torch.stack([target[:2].amin(0) - log_p, target[2:].amin(0)])  # temperature 1 at first
        y = (batch["rewards"] + 0.9 * v).repeat_interleave(2, 0)
        q = net(theta, torch.cat([s, batch["actions"]], -1))[..., 0]
    loss = sum(((q[k] - y[k].detach()) ** 2).sum() / n for k in range(net.copies))
    optimiser = torch.optim.Adam([theta], lr=1e-3, eps=1e-5)
    loss.backward()
    optimiser.step()
    # float32 sums in another order: Adam's first step is lr times the sign where a gradient is not below eps = 1e-5
    torch.testing.assert_close(state.theta["critic"], theta.detach(), rtol=0, atol=2e-5)
    torch.testing.assert_close(state.theta["target"], (before["target"] + state.theta["critic"]) / 2)


def test_q_learning_balances_the_pole():
    worlds = Worlds(CartPole(), gamma=0.98, truncation=100)
    point = worlds.at(worlds.nominal)
    learner = Dqn(iterations=12, updates=120, batch=64, hidden=32)
    state = learner.init(point, 0)
    while not learner.done(state):
        state, _ = learner.step(state, point)
    key = Key(9, "test", 0)
    falls = worlds.returns(learner.policy(learner.init(point, 0)), worlds.nominal[None], key, 10, gamma=1.0).mean()
    stands = worlds.returns(learner.policy(state), worlds.nominal[None], key, 10, gamma=1.0).mean()
    assert stands >= 3 * falls


# ---- the search ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [CartPole, Pendulum])
@pytest.mark.parametrize("gates", [{}, {"thresholds": (0.05, 0.5, 5.0)}])
def test_an_interrupted_search_is_the_uninterrupted_one(system, gates):
    whole = assert_resume_exact(
        lambda: DeepIwocs(**SMALL, **gates), lambda: Worlds(system(), truncation=6), 5 if gates else 4
    )
    assert whole.steps == (10 if gates else 8)


def test_phases_and_streams():
    done = run(DeepIwocs(**{**SMALL, "thresholds": (0.05, 0.5)}), Worlds(Pendulum(), truncation=6), progress=False)
    state, history = done.state, done.history
    assert done.status == "done"
    assert state.status in ("met", "stuck", "worlds")
    assert len(state.agents) == len(state.thresholds) == len(state.worlds) <= 2
    assert done.steps == 2 + len(state.agents) * (2 + 2 * 2)  # default, then training and two searches each
    assert set(state.default) == {"critic", "actor", "dynamics"}
    values = history.column("value")[:, 0]
    assert state.lower == values[np.isfinite(values)].max()
    assert isinstance(done.policy, Candidate)
    assert len(done.policy.agents) == state.best


def test_verdicts():
    worlds, search = Worlds(Pendulum()), DeepIwocs(worlds=2, tol=0.5)
    state = search.init(worlds, 0)
    state.lower, state.upper, state.agents = 1.0, 1.4, ({},)
    near, far = worlds.nominal + 0.01, worlds.nominal + 0.3
    assert verdict(state, far, worlds, search) == "met"
    state.upper = 2.0
    assert verdict(state, near, worlds, search) == "stuck"
    assert verdict(state, far, worlds, search) == "running"
    state.agents = ({}, {})
    assert verdict(state, far, worlds, search) == "worlds"


def test_who_is_not_trusted_does_not_act():
    worlds = Worlds(Pendulum(), truncation=3)
    learner = Sac(hidden=4, dynamics=True)
    agents = tuple(learner.agent(learner.init(worlds, i)) for i in range(3))
    s = worlds.starts(Key(0, "s", 0), np.arange(5))
    nobody = Candidate(learner, agents[:2], (1e-9, 1e-9), agents[2])
    m = nobody.update(nobody.start(5), 0, s, torch.zeros(5, 1).double(), s[:, 0], s + 1)
    assert not bool(m.any())
    alone = learner.policy_of(agents[2])
    torch.testing.assert_close(nobody.act(m, 1, s, s), alone.act(None, 1, s, s))


def test_baselines_see_their_domain():
    for domain, spread in (("nominal", False), ("box", True)):
        worlds = Worlds(Pendulum(), truncation=4)
        seen = []
        at, rollouts = worlds.at, worlds.rollouts

        def spied(policy, requests, key, *, rollouts=rollouts, seen=seen):
            seen.append("box")
            return rollouts(policy, requests, key)

        worlds.rollouts = spied
        worlds.at = lambda x, at=at, seen=seen: (seen.append(tuple(x)), at(x))[1]
        run(DeepTraining(domain, FEW), worlds, progress=False)
        assert seen == ["box", "box"] if spread else seen == [(1.0, 1.0)] * 2


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: DeepIwocs(adversary="de"), UnknownNameError, "adversary"),
        (lambda: DeepIwocs(worlds=0), SettingError, "at least 1"),
        (lambda: DeepIwocs(population=3), SettingError, "at least 1 and 4"),
        (lambda: DeepIwocs(thresholds=(0.5, 0.1)), SettingError, "ascending"),
        (lambda: DeepIwocs(thresholds=()), SettingError, "ascending"),
        (lambda: DeepIwocs(tol=-1.0), SettingError, "tol"),
        (lambda: DeepIwocs(adversary="grid", resolution=0), SettingError, "at least 1 point"),
        (lambda: DeepTraining("everywhere"), UnknownNameError, "domain"),
        (lambda: run(DeepIwocs(training={"updats": 3}), Worlds(Pendulum())), UnknownNameError, "setting of Sac"),
        (lambda: Sac(batch=0), SettingError, "at least 1"),
        (lambda: Sac(polyak=1.0), SettingError, "polyak"),
        (lambda: Dqn(epsilon=1.5), SettingError, "epsilon"),
        (lambda: Dqn(actions=3).init(Worlds(CartPole()), 0), SettingError, "3 actions"),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()
