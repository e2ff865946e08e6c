"""Claims about what DR-RPO estimates and how it learns, in both rooms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.access import Online
from polytheory.models.robust_problems import simulated_linear
from polytheory.proofs_check.claims import Level, Margin, Setting, Wrap, claim
from polytheory.proofs_check.robust.dr_rpo_instances import (
    PRINTED,
    ROUNDING,
    DataCase,
    Regression,
    data_cases,
    expected_sum,
    five_samples,
    nominal,
    one_factor,
)
from polytheory.proofs_check.robust.instances import CASE_P, CASE_Z, Row, conic_minimum, l1_program
from polytheory.reference.exploration.regret import value
from polytheory.reference.robust.bellman import worst_case
from polytheory.reference.robust.regularised import plan, worst_value

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

BALLS = (("tv", 0.3), ("kl", 0.3), ("chi2", 0.4))
PRICES = (("penalised-tv", 1.0), ("penalised-kl", 1.0), ("penalised-chi2", 0.5))
NOMINAL = Wrap(
    "nominal_values", part="factor_values", by=lambda f: lambda W, v, radius, **k: (W * v[..., None, :]).sum(-1)
)
PLAIN_MEAN = Wrap("mean_for_soft_value", part="soft_value", by=lambda f: lambda q, log_ref, eta: q.mean(-1))
ELLIPSOID = Wrap(
    "ellipsoid", part="factor_bonus",
    by=lambda f: lambda inverse, phi: (((phi @ inverse.reshape(phi.shape[-1], -1)) * phi).sum(-1)) ** 0.5,
)  # fmt: skip


def dual(room: Room, W: Any, v: Any, radius: Any, **options: Any) -> np.ndarray:
    """The room's `factor_values` [d] of one learner."""
    v, W = np.asarray(v, dtype=float), np.asarray(W, dtype=float)
    radius = np.broadcast_to(np.asarray(radius, dtype=float), W.shape[:1]).copy()
    if room.name == "reference":
        return room.parts.factor_values(W, v, radius, **options)
    return room.parts.factor_values(W[None], v[None], radius, **options)[0]


@claim(
    method="dr-rpo", source="derived; computed by hand", level=Level.PROPERTY,
    statement="five samples and two factors: ridge matrix, plain means, total variation, both penalties of relative "
    "entropy, chi-square, and the sum of widths .5788405445 where the ellipsoid has .3792566630",
    worked=lambda: [five_samples()],
    breaks=[
        ELLIPSOID,
        NOMINAL,
        Wrap("no_ridge", part="estimated_factors", by=lambda f: lambda n, N, phi, lam: f(n, N, phi, 1e-9)),
    ],
)  # fmt: skip
def five_samples_by_hand(data: Regression, room: Room) -> Margin:
    n, N, phi = data.counts()
    if room.name == "scaled":
        n, N = n[None], N[None]
    inverse, W = (np.asarray(x).reshape(2, -1) for x in room.parts.estimated_factors(n, N, phi, 1.0))
    assert not W[:, -1].any()
    W, v, top = W[:, :-1], data.v, data.top
    margins = [
        Margin.equal(np.linalg.inv(inverse), [[3.3125, 0.4375], [0.4375, 2.8125]], ROUNDING),
        Margin.equal(W @ v, [1.1780821918, 0.7945205479], PRINTED),
        Margin.equal(dual(room, W, v, 0.3, kind="tv", top=top), [0.5369863014, 0.0219178082], PRINTED),
        Margin.equal(dual(room, W, v, 1, kind="penalised-tv", top=top), [0.7876712329, 0.3219178082], PRINTED),
        Margin.equal(dual(room, W, v, 1, kind="penalised-kl", top=top), [1.8510255845, 0.8920888398], PRINTED),
        Margin.equal(
            dual(room, W, v, 1, kind="penalised-kl", top=top, centred=True), [0.8738301727, 0.3217666104], PRINTED
        ),
        Margin.equal(dual(room, W, v, 1, kind="penalised-chi2", top=top), [1.0147776318, 0.39098174], 1e-8),
    ]
    inverse = inverse[None] if room.name == "scaled" else inverse
    widths = room.parts.factor_bonus(inverse, np.array([[1.0, 0.0], [0.5, 0.5]]))
    margins.append(Margin.equal(np.asarray(widths).ravel(), [0.5551749076, 0.5788405445], PRINTED))
    return Margin.worst(margins)


@lru_cache(maxsize=64)
def _program(kind: str, radius: float, which: int) -> float:
    z, p = _rows()[which]
    row = Row(z, p, radius)
    if kind == "tv":
        return l1_program(Row(z, p, 2 * radius))
    if kind.startswith("penalised"):
        return conic_minimum(row, kind.removeprefix("penalised-"), strength=radius)
    return conic_minimum(row, kind)


def _rows() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    return (CASE_Z, CASE_P), (np.array([0.0, 2.5, 1.0]), np.array([0.25, 0.5, 0.25]))


@claim(
    method="dr-rpo", source="iyengar2005; nilim2005: duality, for laws that are known", level=Level.CERTIFICATE,
    statement="where the estimate is a law, the dual of every kind is the value of its linear or conic program",
    worked=lambda: [*BALLS, *PRICES],
    breaks=[
        NOMINAL,
        Wrap("radius_doubled", part="factor_values", by=lambda f: lambda W, v, radius, **k: f(W, v, 2 * radius, **k)),
    ],
)  # fmt: skip
def duals_are_their_programs(problem: tuple[str, float], room: Room) -> Margin:
    kind, radius = problem
    margins = []
    for i, (z, p) in enumerate(_rows()):
        found = dual(room, p[None], z, radius, kind=kind, top=3.0, floor=1e-9)
        # interior-point solutions: tolerance 1e-9 times a condition of a few hundred, as in the claims of robust planning
        margins.append(Margin.equal(found, [_program(kind, radius, i)], 1e-6))
    return Margin.worst(margins)


@dataclass(frozen=True, eq=False)
class Loose:
    """Rows that are no laws, as ridge regression makes them."""

    W: np.ndarray
    v: np.ndarray
    radius: float


@lru_cache(maxsize=1)
def loose_rows() -> tuple[Loose, ...]:
    """Negative entries, sums below and above 1, ties, a row of zeros."""
    rng, found = np.random.default_rng(0), []
    for size in (0.1, 0.3, 0.6):
        W = np.vstack([rng.dirichlet(np.ones(5), 2) + size * rng.normal(size=(2, 5)), np.zeros((1, 5))])
        found.append(Loose(W, np.round(rng.uniform(0, 3, 5), 1), float(rng.uniform(0.1, 1))))
    return (*found, Loose(found[0].W, np.array([1.0, 1.0, 2.0, 2.0, 3.0]), 0.5))


@claim(
    method="dr-rpo", source="derived: the duals are smooth between values of V", level=Level.PROPERTY,
    statement="where the estimate is no law, the maximum over a (or b) is that of a grid of 4000 points, and never below it",
    worked=loose_rows,
    breaks=[
        NOMINAL,
        Wrap("ends_only", part="roots", by=lambda f: lambda a, b, c: [a * float("nan"), a * float("nan")]),
        Wrap("top_forgotten", part="entropic", by=lambda f: lambda W, v, b, top, centred: f(W, v, b, top / 2, centred)),
    ],
)  # fmt: skip
def maxima_are_found_without_concavity(rows: Loose, room: Room) -> Margin:
    W, v, rho, top = rows.W, rows.v, rows.radius, 3.0
    a, margins = np.linspace(0, top, 4001), []
    cut = np.minimum(v[:, None], a)
    z1, z2 = np.clip(W @ cut, 0, top), np.clip(W @ cut**2, 0, top**2)
    variance = np.maximum(z2 - z1**2, 0)
    b = np.geomspace(0.1 * top, top / rho, 4001)
    z = np.einsum("ds,sk->dk", W, np.exp(-v[:, None] / b))
    entropic = np.where(z > 0, np.clip(-b * np.log(np.where(z > 0, z, 1.0)), 0, top), top)
    step = a[1] * (np.abs(W).sum(-1) + 1)  # how far the smooth duals move between two points of the grid
    rough = np.sqrt(rho * 2 * top * step) + step  # and the one with a root, whose slope is not bounded
    for kind, grid, room_above in (
        ("tv", (W @ cut - rho * (a - np.minimum(a, v.min()))), step),
        ("chi2", z1 - np.sqrt(rho * variance), rough),
        ("penalised-chi2", z1 - variance / (4 * rho), step * (1 + 4 * top * (np.abs(W).sum(-1) + 1) / (4 * rho))),
        ("kl", entropic - b * rho, 0.05),
    ):
        found = dual(room, W, v, rho, kind=kind, top=top)
        margins += [Margin.at_most(grid.max(-1), found, 1e-7), Margin.at_most(found, grid.max(-1) + room_above, 0.0)]
    return Margin.worst(margins)


@claim(
    method="dr-rpo", source="derived: bias of the ridge", level=Level.PROPERTY,
    statement="n samples of the value c: the regression of exp(-V / price) is too large by price log(1 + lam / n), the centred "
    "one is at most c",
    worked=lambda: [(4, 1.0, 0.5, 1.0), (50, 2.0, 1.0, 0.3)],
    breaks=[
        Wrap("plain_for_centred", part="entropic", by=lambda f: lambda W, v, b, top, centred: f(W, v, b, top, False)),
        Wrap("centred_for_plain", part="entropic", by=lambda f: lambda W, v, b, top, centred: f(W, v, b, top, True)),
    ],
)  # fmt: skip
def ridge_bias_of_relative_entropy(case: tuple[int, float, float, float], room: Room) -> Margin:
    n, c, price, lam = case
    W, v = np.array([[n / (n + lam)]]), np.array([c])
    plain, centred = (dual(room, W, v, price, kind="penalised-kl", top=9.0, centred=x)[0] for x in (False, True))
    right = -price * np.log(1 - n / (n + lam) * (1 - np.exp(-c / price)))
    return Margin.worst([
        Margin.equal(plain, c + price * np.log(1 + lam / n), ROUNDING), Margin.equal(centred, right, ROUNDING),
        Margin.at_most(centred, c, ROUNDING),
    ])  # fmt: skip


def critic(room: Room, case: DataCase, beta: float, **changes: Any) -> np.ndarray:
    """The room's critic [H, S, A] of the data of a case, uniform reference."""
    H, S, A = case.n.shape
    phi = np.array(changes.pop("phi", case.model.phi))
    radius = np.full((H, phi.shape[-1]), case.radius)
    lead = (lambda x: x) if room.name == "reference" else (lambda x: np.asarray(x)[None])
    seen = tuple(lead(x) for x in (case.n, case.N, np.zeros((H, S, A))))
    log_ref = lead(np.full((H, S, A), -np.log(A)))
    options = {"kind": case.kind, "eta": case.eta, "beta": beta, **changes}
    found = room.parts.robust_critic(seen, phi, case.r, radius, case.caps, log_ref, **options)
    return found if room.name == "reference" else found[0]


def soft(room: Room, q: np.ndarray, eta: float) -> tuple[np.ndarray, np.ndarray]:
    """The room's soft values and policies, uniform reference."""
    log_ref = np.full(q.shape, -np.log(q.shape[-1]))
    return room.parts.soft_value(q, log_ref, eta), room.parts.soft_policy(q, log_ref, eta)


@claim(
    method="dr-rpo", source="derived", level=Level.PROPERTY,
    statement="where the bonus covers the error of phi . nu at the learner's own values, these are optimistic, and what its "
    "policy loses is at most what they claim too much, which is at most twice the bonuses under the "
    "factors worst for the policy",
    worked=data_cases,
    breaks=[
        Wrap("bonus_subtracted", part="factor_bonus", by=lambda f: lambda *a: -f(*a)),
        Wrap("minimum_for_soft_value", part="soft_value", by=lambda f: lambda q, log_ref, eta: -f(-q, log_ref, eta)),
        Wrap("worst_action", part="soft_policy", by=lambda f: lambda q, log_ref, eta: f(-q, log_ref, eta)),
    ],
)  # fmt: skip
def covered_errors_make_optimism_and_a_bound(case: DataCase, room: Room) -> Margin:
    m, (H, S, A) = case.model, case.n.shape
    best = plan(m, case.kind, case.radius, eta=case.eta).v[0]
    for beta in (0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
        q = critic(room, case, beta)
        v, policy = soft(room, q, case.eta)
        error, bonus = np.zeros((H, S, A)), np.zeros((H, S, A))
        for h in range(H):
            flat = m.phi.reshape(-1, m.d)
            Lambda = np.eye(m.d) + (flat * case.n[h].reshape(-1, 1)).T @ flat
            bonus[h] = beta * m.phi @ np.sqrt(np.diag(np.linalg.inv(Lambda)))
            if h == H - 1:
                continue
            W = np.linalg.solve(Lambda, flat.T @ case.N[h].reshape(-1, S))
            estimate = dual(room, W, v[h + 1], case.radius, kind=case.kind, top=float(H))
            truth = _factor_truth(case, v[h + 1], h)
            error[h] = np.abs(m.phi @ (estimate - truth))
        if (error <= bonus).all():
            break
    else:
        return Margin.proved(False)  # no bonus covers: the claim speaks of nothing
    own = worst_value(m, policy, case.kind, case.radius, eta=case.eta)
    twice = 2 * expected_sum(m, policy, own.factors, bonus)
    claimed = float(m.mu @ v[0])
    lost = float(m.mu @ (best - own.v[0]))
    return Margin.worst([
        Margin.at_most(best, v[0], 1e-8), Margin.at_most(lost, claimed - float(m.mu @ own.v[0]), 1e-8),
        Margin.at_most(claimed - float(m.mu @ own.v[0]), twice, 1e-8), Margin.at_most(0.0, lost, 1e-8),
    ])  # fmt: skip


def _factor_truth(case: DataCase, v: np.ndarray, h: int) -> np.ndarray:
    from polytheory.models.factor_ambiguity import ball_of

    p = case.model.measures[h]
    ball = ball_of(case.kind, case.radius)
    return worst_case(ball, np.broadcast_to(v, p.shape), p).value if ball else p @ v


@claim(
    method="dr-rpo", source="derived", level=Level.PROPERTY,
    statement="the critic does not depend on the order of the factors",
    worked=data_cases,
    breaks=[
        Wrap("first_factor_free", part="factor_values",
             by=lambda f: lambda W, v, radius, **k: f(W, v, radius, **k) * (W[..., 0] >= W[..., :1, 0])),
        Wrap("first_factor_wide", part="factor_bonus", by=lambda f: lambda inverse, phi: f(inverse, phi) + phi[..., 0]),
    ],
)  # fmt: skip
def order_of_factors_does_not_matter(case: DataCase, room: Room) -> Margin:
    turned = np.roll(case.model.phi, 1, axis=-1)
    return Margin.equal(critic(room, case, 0.1), critic(room, case, 0.1, phi=turned), 1e-9)


@claim(
    method="dr-rpo", source="derived", level=Level.PROPERTY,
    statement="without data the action values are the rewards and the bonus beta / sqrt(lam), capped; the plain regression of "
    "a penalised relative entropy claims the largest value that is possible",
    worked=lambda: [("tv", 0.2), ("chi2", 0.5), ("penalised-tv", 1.0), ("penalised-kl", 1.0)],
    breaks=[
        Setting("half_the_bonus", bonus_scale=0.3),
        Wrap("squared_widths", part="factor_bonus", by=lambda f: lambda inverse, phi: f(inverse @ inverse, phi)),
    ],
)  # fmt: skip
def first_episode(problem: tuple[str, float], room: Room) -> Margin:
    (kind, radius), m = problem, nominal()
    learner = room.make("DrRpo", phi=m.phi, kind=kind, radius=radius, bonus_scale=0.6, lam=2.0, fail_state=3)
    access = Online(m.to_tabular(), known_rewards=True)
    q = learner.init(access, 0).f if room.name == "reference" else room.call(learner.init, access.replicate(1), 0).f[0]
    r = np.einsum("sad,hd->hsa", m.phi, m.theta)
    left = np.array([3.0, 2.0, 1.0])[:, None, None]
    right = np.minimum(r + 0.6 / np.sqrt(2), left)
    if kind == "penalised-kl":
        right[:-1] = left[:-1]
    right[:, 3] = 0.0
    return Margin.equal(q, right, ROUNDING)


@claim(
    method="dr-rpo", source="jin2020, for a table", level=Level.PROPERTY,
    statement="with radius 0, no reference policy and one factor for every pair, the learner is LSVI-UCB, episode by episode",
    worked=lambda: [None],
    breaks=[
        Setting("a_radius", radius=0.1),
        Setting("a_reference", eta=0.1),
        Setting("another_bonus", bonus_scale=0.2),
    ],
)  # fmt: skip
def without_nature_it_is_lsvi_ucb(_: None, room: Room) -> Margin:
    from polytheory.proofs_check._rooms import Room as AnyRoom

    access, plain = (
        Online(nominal().to_tabular(), known_rewards=True),
        AnyRoom(room.name, "exploration", "optimistic-actor-critic"),
    )
    practice = plain.make("LsviUcb").radii(access.spec)[0]
    own = room.run("DrRpo", access, **{"steps": 12, "eta": 0.0, "radius": 0.0, "bonus_scale": float(practice)})
    other = plain.run("LsviUcb", access, steps=12)
    return Margin.worst([
        Margin.equal(own.state["f"], other.state["f"], ROUNDING), Margin.equal(own.state["N"], other.state["N"], 0.0)
    ])  # fmt: skip


@claim(
    method="dr-rpo", source="liu2024robust, sec. 6, the same ordering", level=Level.STATISTICAL,
    statement="learned in the simulated linear MDP (2 replicas, 50 episodes, fixed seeds), the robust policy earns more than "
    "the nominal one after collapses of 0.6 and more, and less without collapse, by 0.01 at least",
    worked=lambda: [None],
    breaks=[Setting("not_robust", radius=0.0)],
)  # fmt: skip
def robust_policies_win_after_a_collapse(_: None, room: Room) -> Margin:
    m = nominal()
    access = Online(m.to_tabular(), known_rewards=True)
    settings: dict[str, Any] = {"phi": m.phi, "fail_state": 3, "steps": 50, "n": 2}
    returns = []
    for radius in (one_factor(0.5), np.zeros((3, 4))):
        trace = room.run("DrRpo", access, **{**settings, "radius": radius})
        policies = np.concatenate([np.asarray(p.table()).reshape(-1, 3, 5, 16) for p in trace.policies])
        returns.append([
            np.mean([value(simulated_linear(collapse=q).to_tabular(), pi) for pi in policies]) for q in (0.0, 0.6, 0.8, 1.0)
        ])  # fmt: skip
    robust, other = np.array(returns)
    return Margin.at_most(0.01, (robust - other) * np.array([-1, 1, 1, 1]), 0.0)
