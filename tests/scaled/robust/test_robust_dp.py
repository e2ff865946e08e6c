"""The scaled room: the reference's numbers on random rows and models, dense and padded, float32, and compiled sweeps."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from polytheory.access import KnownModel
from polytheory.errors import SettingError
from polytheory.models import ambiguity as sets
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.robust.instances import three_states
from polytheory.reference.robust import robust_dp as reference
from polytheory.scaled.robust import robust_dp as scaled
from polytheory.scaled.robust.sparse import RobustSweeps, solve_sparse

PARTS = ("worst_l1", "worst_kl", "worst_chi2", "worst_reverse_kl", "worst_linf", "worst_contamination")
PENALTIES = ("penalised_tv", "penalised_kl", "penalised_chi2")
ROUNDING = 1e-12  # values of size 3 after some fifty operations


def garnet(S: int, A: int, K: int, gamma: float = 0.9) -> TabularMDP:
    """A sparse random model with K successors."""
    rng = np.random.default_rng(1)
    columns = np.concatenate([rng.choice(S, K, replace=False) for _ in range(S * A)])
    P = sp.csr_matrix(
        (rng.dirichlet(np.ones(K), S * A).ravel(), columns, np.arange(0, S * A * K + 1, K)), shape=(S * A, S)
    )
    return TabularMDP(P, rng.normal(size=(S, A)), np.ones(S) / S, gamma=gamma, name="garnet")


def random_rows(n: int = 60):
    rng = np.random.default_rng(0)
    for _ in range(n):
        k = int(rng.integers(1, 6))
        p = rng.dirichlet(np.ones(k) * rng.choice([0.3, 1.0, 5.0]), size=2)
        if rng.random() < 0.5:
            p = p * np.concatenate([np.ones((2, 1)), rng.integers(0, 2, (2, k - 1))], 1)
            p /= p.sum(-1, keepdims=True)
        yield rng.integers(-3, 4, (2, k)) * 0.5, p, float(rng.choice([0.0, 0.01, 0.1, 0.5, 1.0]))


@pytest.mark.parametrize("part", PARTS + PENALTIES)
def test_rows_are_the_reference_s(part):
    for z, p, radius in random_rows():
        given = radius + 0.1 if part in PENALTIES else radius
        a = getattr(reference, part)(z, p, given)
        b = getattr(scaled, part)(torch.tensor(z), torch.tensor(p), given)
        assert b.value.numpy() == pytest.approx(a.value, abs=ROUNDING)
        assert float(b.gap.max()) < 1e-9


@pytest.mark.parametrize(
    "text",
    [
        "tv:0.1",
        "kl:0.1",
        "chi2:0.2",
        "reverse-kl:0.1",
        "contamination:0.1",
        "penalised-tv:0.3",
        "penalised-kl:1",
        "shared-chi2:0.3",
        "linf:0.1",
    ],
)
def test_padded_successors_give_the_dense_answer(text):
    access = KnownModel(garnet(9, 2, 3))
    a = reference.RobustValueIteration(text)
    b = scaled.RobustValueIteration(text)
    x, y = a.init(access, 0), b.init(access.replicate(2), 0)
    batched = access.replicate(2)
    for _ in range(4):
        x, y = a.step(x, access)[0], b.step(y, batched)[0]
    assert y.v.numpy() == pytest.approx(np.stack([x.v, x.v]), abs=ROUNDING)


def test_float32_is_within_its_own_bound():
    batched = KnownModel(three_states()).replicate(1)
    algorithm = scaled.RobustValueIteration("kl:0.1", dtype="float32", tol=0.05)
    state = algorithm.init(batched, 0)
    while not algorithm.done(state):
        state, _ = algorithm.step(state, batched)
    right = np.array([9.2113835157, 9.7561457489, 8.6172984619])
    assert np.abs(state.v[0].numpy() - right).max() <= float(state.bound)


def test_sets_that_reach_every_state_say_so_on_large_sparse_models(monkeypatch):
    monkeypatch.setattr("polytheory.scaled.robust.problem.LARGEST", 10)
    batched = KnownModel(garnet(9, 2, 3)).replicate(1)
    algorithm = scaled.RobustValueIteration("linf:0.1")
    with pytest.raises(SettingError, match="may reach every state"):
        algorithm.step(algorithm.init(batched, 0), batched)


@pytest.mark.parametrize(
    "ball", [sets.L1(0.2), sets.L1(0.3, "nominal"), sets.TotalVariation(1.0), sets.KL(0.1), sets.KL(3.0), sets.KL(0.0)]
)
def test_compiled_sweeps_are_the_operator(ball):
    model = garnet(50, 3, 6)
    v = np.random.default_rng(2).normal(size=50)
    sweeps, out, actions = RobustSweeps(model, ball), np.empty(50), np.zeros(50, dtype=np.int32)
    for _ in range(2):  # cold, and from kept multipliers
        _, _, gap = sweeps.backup(v, out, actions)
    problem = scaled.problems(KnownModel(model).replicate(1), torch.float64)[0]
    right = scaled.robust_sweep(ball, problem, torch.tensor(v)[None])
    assert out == pytest.approx(right.v[0].numpy(), abs=ROUNDING)
    assert actions.tolist() == right.policy[0].argmax(-1).tolist()
    assert gap < 1e-7


@pytest.mark.parametrize("threads", [1, 2])
def test_large_models_are_certified(threads):
    model = garnet(200, 3, 6)
    found = solve_sparse(model, "tv:0.1", threads=threads)
    assert found.status == "certified"
    exact = reference.RobustPolicyIteration("tv:0.1", tol=1e-9)
    access = KnownModel(model)
    state = exact.init(access, 0)
    while not exact.done(state):
        state, _ = exact.step(state, access)
    assert np.abs(found.v - state.v).max() <= found.bound + 1e-9
    with pytest.raises(SettingError, match="no compiled sweep"):
        solve_sparse(model, "chi2:0.1")
    with pytest.raises(SettingError, match="CSR"):
        solve_sparse(three_states(), "tv:0.1")
