"""The named parts of planning: worked numbers, sparse against dense, bounds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from planning_models import dense, garnet

from polytheory.proofs_check.planning.instances import puterman, two_state
from polytheory.reference.planning import planning as p


def test_worked_sweep_of_puterman_by_hand():
    m = puterman()
    q = p.q_values(m.P, m.r, np.array([0.0, -20.0]), gamma=0.95)
    # 5 + .95 * (0 + -20) / 2 = -4.5; 10 - 19 = -9; -1 - 19 = -20
    assert_allclose(q, [[-4.5, -9.0], [-20.0, -20.0]], atol=1e-14)
    assert p.greedy_actions(q).tolist() == [0, 0]
    assert_allclose(p.bellman_residual(m.P, m.r, np.array([0.0, -20.0]), gamma=0.95), [-4.5, 0.0], atol=1e-14)


def test_policy_backup_averages_over_actions():
    m = two_state()
    pi = np.array([[0.25, 0.75], [1.0, 0.0]])
    # (.25 (.1 + .8 * (.9 - .2)) + .75 * .8 (.2 - 1.6), .5 + .8 (.7 - .6)) at v = (1, -2)
    assert_allclose(
        p.policy_backup(m.P, m.r, pi, np.array([1.0, -2.0]), gamma=0.8), [0.25 * 0.66 - 0.75 * 1.12, 0.58], atol=1e-14
    )


def test_sparse_is_dense_in_every_part():
    sparse = garnet(12, 3, 4, 0.9, sparse=True)
    full = dense(sparse)
    rng = np.random.default_rng(1)
    v, pi = rng.normal(size=12), rng.dirichlet(np.ones(3), size=12)
    actions = rng.integers(3, size=12)
    for part in (p.q_values, p.greedy_backup, p.bellman_residual):
        assert_allclose(part(sparse.P, sparse.r, v, gamma=0.9), part(full.P, full.r, v, gamma=0.9), atol=1e-14)
    assert_allclose(
        p.policy_backup(sparse.P, sparse.r, pi, v, gamma=0.9),
        p.policy_backup(full.P, full.r, pi, v, gamma=0.9),
        atol=1e-14,
    )
    (P1, r1), (P2, r2) = p.restrict(sparse.P, sparse.r, actions), p.restrict(full.P, full.r, actions)
    assert_allclose(P1.toarray(), P2, atol=0)
    assert_allclose(r1, r2, atol=0)
    assert_allclose(r1, [full.r[s, a] for s, a in enumerate(actions)], atol=0)


def test_worked_bounds():
    old, new = np.array([1.0, 2.0, 0.0]), np.array([2.0, 5.0, 4.0])  # differences 1, 3, 4
    assert p.span(new - old) == 3.0
    assert p.sup_norm_bound(old, new, 0.5) == 4.0
    assert p.span_bound(old, new, 0.5) == 1.5
    assert_allclose(p.midpoint_correction(old, new, 0.5), new + 2.5, atol=0)
    assert p.residual_bound(new - old, 0.75) == 16.0
    assert p.midpoint_shift(1.0, 4.0, 0.5) == 2.5
    assert p.half_width(1.0, 4.0, 0.5) == 1.5


@pytest.mark.parametrize("row_gap", [0.0, 1e-9])
def test_rounding_bound_grows_with_everything_it_depends_on(row_gap):
    base = {"gamma": 0.9, "terms": 4, "row_gap": row_gap}
    at = p.rounding_bound(1.0, 1.0, 0.5, **base)
    assert at > 0
    assert p.rounding_bound(2.0, 1.0, 0.5, **base) > at
    assert p.rounding_bound(1.0, 2.0, 0.5, **base) > at
    assert p.rounding_bound(1.0, 1.0, 1.0, **base) > at
    assert p.rounding_bound(1.0, 1.0, 0.5, **(base | {"gamma": 0.99})) > at
    assert p.rounding_bound(1.0, 1.0, 0.5, **(base | {"terms": 9})) > at
    assert p.rounding_bound(1.0, 1.0, 0.5, **(base | {"row_gap": 1e-8})) > at
    # single precision is 2^29 times coarser where only rounding counts
    clean = base | {"row_gap": 0.0}
    ratio = p.rounding_bound(1.0, 1.0, 0.5, **clean, unit=2.0**-24) / p.rounding_bound(1.0, 1.0, 0.5, **clean)
    assert ratio == pytest.approx(2.0**29)
