"""Claims about the exact hypergradient: routes, the lower level's derivatives, invariances, inexactness, the outer rate."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from polytheory.proofs_check.alignment import oracles
from polytheory.proofs_check.alignment.breaks import (
    DISCOUNT_SLIP,
    FLIPPED,
    NO_ENTROPY,
    NO_TEMPERATURE,
    OCCUPANCY,
    normalised,
    times,
)
from polytheory.proofs_check.alignment.instances import Case, cases, three_state, worked
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Setting, Wrap, claim
from polytheory.proofs_check.policy_gradient.oracles import SECOND, gradient, hessian

PAPER = "chakraborty2024"
RIDGE = 0.05
ROUTES = ("closed", "implicit", "fisher")
LONGEST = 61  # steps below and one above: a broken lower level never says that it has ended


def upper_step(case: Case, room: Room, **settings: Any) -> tuple[float, np.ndarray]:
    """G and the hypergradient of the first upper step."""
    made = room.make("Parl", **{"features": case.features, "tau": case.tau, "nu0": case.nu, "ridge": RIDGE, **settings})
    access: Any = case.access if room.name == "reference" else case.access.replicate(1)
    state = made.init(access, 0)
    for _ in range(LONGEST):
        state, _ = made.step(state, access)
        if state.t == 1:
            break
    value, slope = room.call(lambda: (state.value, state.gradient))
    return float(np.nan_to_num(np.ravel(value)[0], nan=np.inf)), np.reshape(slope, -1)


@claim(
    method="parl", source=f"{PAPER}, hypergradient and implicit function theorem; closed form derived", level=Level.PROPERTY,
    statement="the closed form, the implicit function theorem and the single Fisher solve give the derivative of G through a "
    "full re-solve of the lower level",
    worked=worked, generated=cases,
    breaks=[
        OCCUPANCY, NO_ENTROPY,
        Wrap("sign_flipped_everywhere", part="mixed_pullback", by=times(-1.0)),
        Wrap("not_centred", part="upper_gradient", by=lambda f: lambda W, pi: f(W + pi, pi) + pi),
        FLIPPED, NO_TEMPERATURE, DISCOUNT_SLIP,
        Setting("hessian_replaced_by_identity", route="identity"), Setting("distribution_term_dropped", route="none"),
    ],
)  # fmt: skip
def routes_agree_with_a_full_resolve(case: Case, room: Room) -> Margin:
    G = oracles.utility(case, RIDGE)
    exact, value = oracles.complex_step(G, case.nu), G(case.nu).real
    margins = []
    for route in ROUTES:
        found, slope = upper_step(case, room, route=route)
        margins.append(Margin.equal(np.append(slope, found), np.append(exact, value), oracles.ROUNDING * case.size))
    return Margin.worst(margins)


@claim(
    method="parl", source=f"{PAPER}, Bradley-Terry upper level", level=Level.PROPERTY,
    statement="with a teacher's choices as upper level, distribution term plus Bradley-Terry gradient is the derivative of the "
    "expected log-likelihood",
    worked=worked,
    breaks=[
        FLIPPED,
        Wrap("only_the_first_of_a_pair", part="pair_utilities", by=times(0.5)),
        Wrap("labels_the_other_way", part="teacher", by=lambda f: lambda R, other, scale: f(other, R, scale)),
        Wrap("bradley_terry_flipped", part="label_residual", by=times(-1.0)),
        Setting("distribution_term_dropped", route="none"),
    ],
)  # fmt: skip
def preference_hypergradient(case: Case, room: Room) -> Margin:
    G = oracles.preference(case, 2, RIDGE)
    exact, value = oracles.complex_step(G, case.nu), G(case.nu).real
    found, slope = upper_step(case, room, upper="preference", segment=2)
    return Margin.equal(np.append(slope, found), np.append(exact, value), oracles.ROUNDING * case.size)


@claim(
    method="parl", source="derived; geist2019, section 4", level=Level.PROPERTY,
    statement="d log pi* / d nu is the advantage for the features as rewards, over tau",
    worked=worked, generated=cases, breaks=[FLIPPED, NO_TEMPERATURE, DISCOUNT_SLIP],
)  # fmt: skip
def optimum_moves_by_advantages(case: Case, room: Room) -> Margin:
    world = case.world
    log_pi = oracles.log_optimum(world, case.features @ case.nu, case.tau).real
    exact = oracles.complex_step(lambda nu: oracles.log_optimum(world, case.features @ nu, case.tau), case.nu)
    A_f = room.parts.feature_advantages(world.P, np.exp(log_pi), case.features, gamma=world.gamma)
    found = room.parts.log_policy_sensitivity(A_f, case.tau)
    return Margin.equal(found, np.moveaxis(exact, 0, -1), oracles.ROUNDING * case.size)


def _lower(case: Case, theta: np.ndarray) -> Any:
    """``theta -> V`` with entropy, theta flat."""
    world, r = case.world, case.features @ case.nu

    def V(flat: Any) -> Any:
        log_pi = oracles.log_softmax(flat.reshape(theta.shape))
        return oracles.discounted_return(world, log_pi, r - case.tau * log_pi)

    return V


def _curvature(case: Case, room: Room, theta: np.ndarray) -> np.ndarray:
    world, r = case.world, case.features @ case.nu
    columns = [
        room.parts.curvature_product(
            world.P, world.mu, r, theta, e.reshape(theta.shape), gamma=world.gamma, tau=case.tau
        ).ravel()
        for e in np.eye(theta.size)
    ]
    return np.stack(columns, axis=1)


@claim(
    method="parl", source="furmston2016, Thm. 3, with entropy; derived", level=Level.PROPERTY,
    statement="gradient and Hessian-vector products of the regularised return are its derivatives at any logits",
    worked=worked,
    breaks=[
        NO_ENTROPY,
        Line("no_entropy_curvature", room="reference", module="bilevel", old="w * (q - tau), z, z", new="w * q, z, z"),
        Line("no_cross_terms", room="reference", module="bilevel", old="curved + cross + cross.T", new="curved"),
        Line("one_cross_term", room="reference", module="bilevel", old="curved + cross + cross.T", new="curved + cross"),
        Wrap("negative_curvature", part="curvature_product", by=times(-1.0)),
    ],
)  # fmt: skip
def lower_level_derivatives(case: Case, room: Room) -> Margin:
    world, r = case.world, case.features @ case.nu
    theta = np.cos(np.arange(r.size, dtype=float)).reshape(r.shape)
    V = _lower(case, theta)
    slope = room.parts.lower_slope(world.P, world.mu, r, theta, gamma=world.gamma, tau=case.tau).ravel()
    return Margin.worst([
        Margin.equal(slope, gradient(V, theta.ravel()), oracles.ROUNDING * case.size),
        Margin.equal(_curvature(case, room, theta), hessian(V, theta.ravel()), SECOND * case.size),
    ])  # fmt: skip


@claim(
    method="parl", source="derived", level=Level.PROPERTY,
    statement="at the regularised optimum, and there, the Hessian is -tau times the Fisher matrix of the visits",
    worked=worked, generated=cases,
    breaks=[
        NO_ENTROPY, Wrap("occupancy_for_visits", part="visits", by=normalised, room="scaled"),
        Wrap("fisher_flipped", part="fisher_product", by=times(-1.0)),
        Wrap("other_sign", part="curvature_product", by=times(-1.0)),
    ],
)  # fmt: skip
def hessian_at_the_optimum_is_fisher(case: Case, room: Room) -> Margin:
    world = case.world
    theta = oracles.log_optimum(world, case.features @ case.nu, case.tau).real
    pi = np.exp(theta)
    x = room.parts.visits(world.P, pi, world.mu, gamma=world.gamma)
    fisher = [room.parts.fisher_product(x, pi, e.reshape(pi.shape)).ravel() for e in np.eye(pi.size)]
    return Margin.equal(
        _curvature(case, room, theta), -case.tau * np.stack(fisher, axis=1), oracles.ROUNDING * case.size
    )


@claim(
    method="parl", source="derived; puterman2005 for the shaping identity", level=Level.PROPERTY,
    statement="a constant reward, and a shaping reward gamma E Psi(s') - Psi(s), change nothing that the upper level sees",
    worked=lambda: [three_state()],
    breaks=[
        DISCOUNT_SLIP,
        Wrap("values_not_subtracted", part="feature_advantages",
             by=lambda f: lambda P, pi, features, *, gamma: f(P, pi, features, gamma=gamma) + 0.1 * features),
    ],
)  # fmt: skip
def gauge_directions_are_flat(case: Case, room: Room) -> Margin:
    world, psi = case.world, np.array([1.0, -2.0, 0.5])
    shaping = world.gamma * world.P @ psi - psi[:, None]
    both = np.stack([np.ones_like(shaping), shaping], axis=-1)
    wider = Case(case.model, np.concatenate([case.features, both], axis=-1), np.append(case.nu, [0.7, -0.3]), case.tau)
    _, slope = upper_step(wider, room, ridge=0.0)
    _, narrow = upper_step(case, room, ridge=0.0)
    return Margin.equal(slope, np.append(narrow, [0.0, 0.0]), oracles.ROUNDING * wider.size)


TABLE = {1: 1.664603, 5: 0.287339, 10: 0.108134, 20: 0.037902, 50: 0.006146}


@claim(
    method="parl", source=f"{PAPER}, error of an inexact lower level; derived", level=Level.PROPERTY,
    statement="after K gradient steps below, the hypergradient is off by at most a constant times the error of the logits: the "
    "worked table, from 1.664603 (K = 1) to 0.006146 (K = 50)",
    worked=lambda: [three_state()],
    breaks=[
        Setting("hessian_replaced_by_identity", route="identity"),
        Setting("fisher_away_from_the_optimum", route="fisher"),
        Wrap("too_long_steps", part="lower_slope", by=times(1.5)),
    ],
)  # fmt: skip
def inexact_lower_level(case: Case, room: Room) -> Margin:
    exact = oracles.complex_step(oracles.utility(case, RIDGE), case.nu)
    settings = {"route": "implicit", "lower": "gradient", "lower_step": 0.25}
    errors = [float(np.linalg.norm(upper_step(case, room, lower_steps=K, **settings)[1] - exact)) for K in TABLE]
    ratios = np.array(errors) / _distances(case)
    return Margin.worst([
        Margin.equal(errors, list(TABLE.values()), 5e-7),  # the digits that the table shows
        Margin.at_most(errors[1:], errors[:-1], 0.0),
        Margin.at_most(ratios, ratios[0], 0.0),
    ])  # fmt: skip


@lru_cache(maxsize=1)
def _distances(case: Case) -> np.ndarray:
    """How far the logits are from the optimum after K steps, from complex-step gradients."""
    best = oracles.log_optimum(case.world, case.features @ case.nu, case.tau).real
    theta, out = np.zeros(case.world.r.shape), []
    for K in range(1, max(TABLE) + 1):
        theta = theta + 0.25 * gradient(_lower(case, theta), theta.ravel()).reshape(theta.shape)
        if K in TABLE:
            out.append(np.linalg.norm((theta - best)[:, 1] - (theta - best)[:, 0]))
    return np.array(out)


@claim(
    method="parl", source=f"{PAPER}, outer rate O(1/T); exact-gradient form derived", level=Level.PROPERTY,
    statement="the mean squared hypergradient of T ascent steps is at most 2 (G(nu_T) - G(nu_0)) / (alpha T), for every T up "
    "to 30 (T = 10: 2.655366 <= 4.684366)",
    worked=lambda: [three_state((0.0, 0.0))],
    breaks=[FLIPPED, NO_TEMPERATURE, Setting("too_long_steps", alpha=1.5)],
)  # fmt: skip
def squared_gradients_fall_as_one_over_T(case: Case, room: Room) -> Margin:
    settings = {"features": case.features, "tau": case.tau, "nu0": case.nu, "alpha": 0.1}
    history = room.run("Parl", case.access, steps=125, **settings).history
    t = history["iterations"]
    moved = np.flatnonzero(np.diff(t[:, 0], prepend=0))
    values, squares = history["objective"][moved, 0], history["gradient_norm"][moved, 0] ** 2
    T = np.arange(1, min(len(values), 31))
    means = np.cumsum(squares)[T - 1] / T
    alpha = room.make("Parl", **settings).alpha
    bounds = 2 * (values[T] - values[0]) / (alpha * T)
    return Margin.worst([
        Margin.at_most(means, bounds, oracles.ROUNDING * case.size),
        Margin.equal([means[9], bounds[9]], [2.655366, 4.684366], 1e-6),
    ])  # fmt: skip


@claim(
    method="parl", source="derived", level=Level.PROPERTY,
    statement="with the distribution term dropped, the ascent of a utility knows of nothing but the ridge; with it G goes from "
    "2.737687 to 5.079870 in ten steps",
    worked=lambda: [three_state()], breaks=[Setting("distribution_term_dropped", route="none"), FLIPPED],
)  # fmt: skip
def dropping_the_term_goes_elsewhere(case: Case, room: Room) -> Margin:
    _, dropped = upper_step(case, room, route="none")
    full = room.run("Parl", case.access, steps=50, features=case.features, tau=case.tau)
    moved = np.flatnonzero(np.diff(full.history["iterations"][:, 0], prepend=0))
    values = full.history["objective"][moved, 0]
    return Margin.worst([
        Margin.equal(dropped, -2 * RIDGE * case.nu, 0.0),
        Margin.equal(values[[0, 10]], [2.7376865672, 5.0798696693], 5e-11),
    ])  # fmt: skip
