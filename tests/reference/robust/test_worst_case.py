"""Nature's problem in one row: worked numbers, laws, and the mistakes that change them."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.reference.robust import robust_dp as robust

Z, P = np.array([1.0, 3.0, 0.0, 2.0]), np.array([0.4, 0.3, 0.1, 0.2])
PRINTED = 1e-10  # of the worked numbers


@pytest.mark.parametrize(
    ("radius", "value", "law"), [(0.2, 1.4, (0.4, 0.2, 0.2, 0.2)), (0.5, 0.95, None), (1.0, 0.4, (0.4, 0, 0.6, 0))]
)
def test_l1(radius, value, law):
    worst = robust.worst_l1(Z, P, radius)
    assert worst.value == pytest.approx(value, abs=1e-14)
    if law is not None:
        assert worst.law == pytest.approx(np.array(law), abs=1e-14)


def test_support_is_another_model():
    z, p = np.array([1.0, 3.0, 0.0]), np.array([0.6, 0.4, 0.0])
    assert robust.worst_l1(z, p, 0.4).value == pytest.approx(1.2)
    assert robust.worst_l1(z, p, 0.4, support="nominal").value == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("part", "radius", "value"),
    [
        ("worst_kl", 0.05, 1.3844028706), ("worst_kl", 0.2, 1.0793994313), ("worst_kl", 1.0, 0.4211674491),
        ("worst_kl", 2.302585094, 0.0),
        ("worst_chi2", 0.05, 1.4752779495), ("worst_chi2", 0.2, 1.2505558989), ("worst_chi2", 1.0, 0.7387961250),
        ("worst_linf", 0.05, 1.5), ("worst_linf", 0.1, 1.3),
        ("penalised_tv", 0.5, 0.45), ("penalised_tv", 1.0, 0.9), ("penalised_tv", 2.0, 1.4),
        ("penalised_kl", 0.5, 0.9208714423), ("penalised_kl", 1.0, 1.2407925628), ("penalised_kl", 2.0, 1.4549506112),
        ("penalised_chi2", 0.5, 1.2142857143), ("penalised_chi2", 1.0, 1.4475), ("penalised_chi2", 2.0, 1.57375),
    ],
)  # fmt: skip
def test_worked_numbers(part, radius, value):
    assert getattr(robust, part)(Z, P, radius).value == pytest.approx(value, abs=PRINTED)


@pytest.mark.parametrize(("radius", "value"), [(0.1, 1.4), (0.3, 0.8), (0.7, 0.3)])
def test_transport(radius, value):
    cost = np.abs(np.arange(4)[:, None] - np.arange(4)[None, :]).astype(float)
    assert robust.worst_transport(Z, P, cost, radius).value == pytest.approx(value, abs=1e-14)


def test_total_variation_over_the_support_is_a_mixture_of_cvar_and_the_minimum():
    rho = 0.25  # remove the best quarter, average the rest, and put the quarter on the minimum
    best_first = np.argsort(-Z)
    left, kept = rho, P.copy()
    for i in best_first:
        taken = min(left, kept[i])
        kept[i] -= taken
        left -= taken
    expected = (1 - rho) * (kept @ Z) / (1 - rho) + rho * Z.min()
    assert robust.worst_l1(Z, P, 2 * rho, support="nominal").value == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("part", ["worst_kl", "worst_chi2", "worst_reverse_kl", "worst_l1"])
def test_the_law_is_the_gradient_of_the_value(part):
    # Danskin: central differences of a function with bounded third derivative, h = 1e-5: error about 1e-9
    f, h = getattr(robust, part), 1e-5
    law = f(Z, P, 0.2).law
    for i in range(4):
        step = h * np.eye(4)[i]
        slope = (f(Z + step, P, 0.2).value - f(Z - step, P, 0.2).value) / (2 * h)
        assert slope == pytest.approx(law[i], abs=1e-7)


def test_one_dirac_leaves_nature_of_an_entropy_ball_no_choice():
    worst = robust.worst_kl(Z, np.eye(4)[1], 0.5)
    assert worst.value == 3.0
    assert worst.law.tolist() == [0, 1, 0, 0]
