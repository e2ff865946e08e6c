"""The oracles of CoPG's claims are themselves right: gradient of the regularised objective, its optimum, another optimiser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from polytheory.proofs_check.posttraining.copg import MU_1, MU_2, _objective, bandit
from polytheory.proofs_check.posttraining.copg_claims import worked_case


def at(case, theta):
    return replace(case, probe=replace(case.probe, theta=theta.reshape(case.probe.theta.shape)))


def test_gradient_of_the_objective_by_differences():
    case, h = worked_case(), 1e-5
    lm, probe = case.probe.lm, case.probe
    exact = lm.gradient(probe.theta, case.regularised)
    direction = np.cos(np.arange(probe.theta.size)).reshape(probe.theta.shape)
    ahead, behind = (_objective(at(case, probe.theta + s * h * direction)) for s in (1, -1))
    # rounding 1e-16 over h; third derivatives below 10 times h^2
    assert_allclose((exact * direction).sum(), (ahead - behind) / (2 * h), rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", [bandit(), worked_case(length=2)])
def test_optimum_by_another_optimiser(case):
    found = minimize(lambda theta: -_objective(at(case, theta)), case.probe.theta.ravel(), method="BFGS", tol=1e-9)
    # BFGS by differences stops at slopes of 1e-5; what is missing of the optimum is of second order
    assert_allclose(-found.fun, _objective(case.optimum), rtol=0, atol=1e-8)


def test_end_without_baseline_solves_its_equation_and_follows_the_constant():
    mu, case = (MU_1 + MU_2) / 2, bandit()
    p = np.array([0.1939902583, 0.2501385902, 0.5558711516])
    g = mu * (case.probe.reward - 0.5 * np.log(3 * p))
    assert_allclose(g / g.sum(), p, rtol=0, atol=1e-9)
    shifted = mu * (case.probe.reward + 5 - 0.5 * np.log(3 * p))
    assert np.abs(shifted / shifted.sum() - p).max() > 0.1
