"""Robust planners: worked values, policies' robust values, stages, terminal states, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from polytheory.access import KnownModel
from polytheory.errors import DiscountError, NotSolvedError, SettingError, ShapeError
from polytheory.models import ambiguity as sets
from polytheory.models import make
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.robust.instances import PRINTED, VALUES, three_states
from polytheory.reference.robust import robust_dp as robust
from polytheory.run import run


@pytest.mark.parametrize("text", ["l1:0.4", "w1:0.5", "shared-l1:0.8", "penalised-tv:1"])
@pytest.mark.parametrize("solver", [robust.RobustValueIteration, robust.RobustPolicyIteration])
def test_solvers_reach_the_worked_values(text, solver):
    done = run(solver(text, tol=1e-9), KnownModel(three_states()), progress=False)
    assert done.state.v == pytest.approx(np.array(VALUES[text]), abs=2 * PRINTED)
    assert done.policy.table.argmax(-1).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("actions", "value"),
    [((0, 0, 0), (4.7741935484, 3.4838709677, 4.1290322581)), ((1, 1, 1), (1.0010867481, 2.2220801637, 0.2467557374))],
)
def test_robust_values_of_fixed_policies(actions, value):
    found = robust.robust_evaluate(three_states(), TabularPolicy(np.eye(2)[list(actions)]), "l1:0.4", tol=1e-10)
    assert found.v == pytest.approx(np.array(value), abs=2e-10)
    under = np.linalg.solve(
        np.eye(3) - 0.9 * found.kernel[np.arange(3), list(actions)], three_states().r_at()[np.arange(3), list(actions)]
    )
    assert under == pytest.approx(found.v, abs=1e-9)  # one kernel is worst from every state


def test_error_of_robust_value_iteration_falls_by_gamma():
    algorithm = robust.RobustValueIteration("l1:0.4", stop="sup")
    access = KnownModel(three_states())
    state, errors = algorithm.init(access, 0), []
    for _ in range(30):
        state, _ = algorithm.step(state, access)
        errors.append(float(np.max(np.abs(state.v - np.array(VALUES["l1:0.4"])))))
    assert [errors[i] for i in (9, 19, 29)] == pytest.approx([2.9092189971, 1.0143819033, 0.3536930997], abs=1e-9)


def test_a_factored_set_with_one_factor_per_state_and_action_is_the_set_by_state_and_action():
    m = three_states()
    factors = m.P.reshape(6, 3)
    features = np.eye(6).reshape(3, 2, 6)
    by_factor = run(
        robust.RobustValueIteration(sets.Factored(sets.KL(0.1), features, factors), tol=1e-9),
        KnownModel(m),
        progress=False,
    )
    assert by_factor.state.v == pytest.approx(np.array(VALUES["kl:0.1"]), abs=2e-9)


def test_stages_by_hand():
    # one stage before the end nature moves 0.1 from the state worth 2 to the state worth 0
    P = np.array([[[0.5, 0.5]], [[0.0, 1.0]]])
    model = TabularMDP(P, [[1.0], [2.0]], [1.0, 0.0], horizon=2)
    done = run(robust.RobustBackwardInduction("tv:0.1"), KnownModel(model), progress=False)
    assert done.state.v[1].tolist() == [1.0, 2.0]
    assert done.state.v[0] == pytest.approx([1 + 0.6 * 1 + 0.4 * 2, 2 + 0.1 * 1 + 0.9 * 2], abs=1e-14)
    again = robust.robust_evaluate(model, done.policy, "tv:0.1")
    assert again.v == pytest.approx(done.state.v, abs=1e-14)


def test_nature_cannot_leave_a_terminal_state():
    model = TabularMDP([[[0.0, 1.0]], [[0.0, 1.0]]], [[1.0], [0.0]], [1.0, 0.0], gamma=0.9, terminal=[False, True])
    done = run(robust.RobustValueIteration("tv:0.5"), KnownModel(model), progress=False)
    assert done.state.v[1] == pytest.approx(0.0, abs=1e-6)
    assert done.state.v[0] == pytest.approx(1.0, abs=1e-6)  # every other law would pay more


def test_rewards_that_depend_on_the_next_state_are_nature_s_too():
    P, r = np.array([[[0.5, 0.5]], [[0.0, 1.0]]]), np.array([[[0.0, 4.0]], [[0.0, 0.0]]])
    model = TabularMDP(P, r, [1.0, 0.0], gamma=0.0)
    done = run(robust.RobustValueIteration("tv:0.25"), KnownModel(model), progress=False)
    assert done.state.v[0] == pytest.approx(0.25 * 4, abs=1e-12)


def test_what_is_refused():
    m = three_states()
    with pytest.raises(SettingError, match="speed"):
        robust.RobustPolicyIteration("tv:0.1", speed=1.0)
    with pytest.raises(SettingError, match="order"):
        robust.RobustValueIteration("tv:0.1", order=0)
    with pytest.raises(DiscountError, match="horizon"):
        run(robust.RobustBackwardInduction("tv:0.1"), KnownModel(m), progress=False)
    with pytest.raises(ShapeError, match="kernels is"):
        run(robust.RobustValueIteration(sets.Scenarios(np.eye(2)[None, :, None, :])), KnownModel(m), progress=False)
    with pytest.raises(NotSolvedError, match="cannot be certified"):
        run(robust.RobustValueIteration("tv:0.1", tol=1e-17), KnownModel(m), progress=False)
    by_next = TabularMDP(m.P, np.arange(18.0).reshape(3, 2, 3), m.mu, gamma=0.9)
    factored = sets.Factored(sets.KL(0.1), np.eye(6).reshape(3, 2, 6), m.P.reshape(6, 3))
    with pytest.raises(SettingError, match="rewards \\[S, A\\]"):
        run(robust.RobustValueIteration(factored), KnownModel(by_next), progress=False)


def test_sparse_models_are_solved_like_dense_ones():
    m = three_states()
    sparse = TabularMDP(sp.csr_matrix(m.P.reshape(6, 3)), m.r, m.mu, gamma=0.9)
    a, b = (run(robust.RobustPolicyIteration("chi2:0.2"), KnownModel(x), progress=False).state.v for x in (m, sparse))
    assert a == pytest.approx(b, abs=1e-12)


def test_a_larger_radius_is_never_worth_more_on_a_real_problem():
    values = [
        run(
            robust.RobustValueIteration(f"tv:{rho}"),
            KnownModel(make("riverswim", horizon=None, gamma=0.9)),
            progress=False,
        ).state.v
        for rho in (0, 0.1, 0.3)
    ]
    assert (values[0] >= values[1] - 2e-6).all()
    assert (values[1] >= values[2] - 2e-6).all()
