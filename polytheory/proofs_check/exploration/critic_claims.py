"""Claims about the optimistic critic: worked numbers, ellipsoids, potentials, optimism."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory.errors import require
from polytheory.exploration.constants import tabular_radius
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Setting, Wrap, claim
from polytheory.proofs_check.exploration.oac_instances import ROUNDING, World, lift, lower, m0, worlds
from polytheory.reference.exploration.regret import alive, bellman_gaps, stage_q_values

PAPER = "tan2025"
METHOD = "optimistic-actor-critic"
NO_BONUS = Wrap("no_bonus", part="bonus", by=lambda f: lambda width, radius: 0 * f(width, radius))
# the value of the uniform policy, of which the critic of a fresh actor would be
OWN_POLICY = Wrap("targets_current_policy", part="next_value", by=lambda f: lambda x, pi: 1.0 * x.mean(-1))
NEXT_STAGE_DATA = Line(
    "data_of_the_next_stage", old="estimate(data.n[h], sums", new="estimate(data.n[h - 1], sums", module="critics",
    room="reference",
)  # fmt: skip
NEXT_STAGE_DATA_SCALED = Line(
    "data_of_the_next_stage_scaled", old="estimate(data.n[:, h], sums", new="estimate(data.n[:, h - 1], sums",
    module="critics", room="scaled",
)  # fmt: skip
CAP_TOO_LOW = Line(
    "cap_of_the_next_stage", old="0, caps[h])", new="0, caps[h] - 1)", module="critics", room="reference"
)
CAP_TOO_LOW_SCALED = Line(
    "cap_of_the_next_stage_scaled", old="clamp(0.0, most[h])", new="clamp(0.0, most[h] - 1)", module="critics",
    room="scaled",
)  # fmt: skip


@claim(
    method=METHOD, source=f"{PAPER}, linear critic; worked by hand", level=Level.PROPERTY,
    statement="the linear critic of two stages: ridge weights, elliptic bonus, caps on what is left, next stage refitted first",
    breaks=[
        NO_BONUS, OWN_POLICY, NEXT_STAGE_DATA, NEXT_STAGE_DATA_SCALED,
        Wrap("no_square_root", part="widths", by=lambda f: lambda *a: f(*a) ** 2),
        Wrap("no_ridge", part="gram", by=lambda f: lambda n, phi, lam: f(n, phi, 0.5 * lam)),
    ],
)  # fmt: skip
def linear_critic_is_the_worked_one(_: None, room: Room) -> Margin:
    phi = np.array([[[1, 0], [0, 1]], [[0.5, 0.5], [0.8, 0.2]]])
    n, N, R = np.zeros((2, 2, 2), np.int64), np.zeros((2, 2, 2, 2), np.int64), np.zeros((2, 2, 2))
    for s, a, r in ((1, 0, 0.5), (0, 1, 1.0), (0, 0, 0.1)):
        n[1, s, a] += 1
        R[1, s, a] += r
    for s, a, r, y in ((0, 0, 0.2, 1), (0, 1, 0.4, 0), (0, 0, 0.2, 0)):
        n[0, s, a] += 1
        R[0, s, a] += r
        N[0, s, a, y] += 1
    seen = tuple(lift(room, x) for x in (n, N, R))
    f = lower(room, room.parts.optimistic_critic(seen, phi, None, np.full(2, 0.5), np.array([2.0, 1.0])))
    expected = [
        [[0.89668080, 0.99375849], [0.85232311, 0.85596850]],
        [[0.43041020, 0.88041020], [0.54360680, 0.45425824]],
    ]
    return Margin.equal(f, expected, 0.5e-8 + 1e-12)  # worked to eight digits


def _features() -> Any:
    """Hypothesis strategy: a sequence of feature vectors of norm at most 1, as counts of pairs in order."""
    st = require("hypothesis.strategies", "conform")

    @st.composite
    def make(draw: Any) -> tuple[np.ndarray, list[int]]:
        d, pairs = draw(st.integers(1, 3)), draw(st.integers(1, 4))
        k = draw(st.lists(st.integers(-4, 4), min_size=d * pairs, max_size=d * pairs))
        x = np.array(k, dtype=float).reshape(pairs, d) / 4
        x = x / np.maximum(1.0, np.linalg.norm(x, axis=-1, keepdims=True))
        return x, draw(st.lists(st.integers(0, pairs - 1), min_size=1, max_size=40))

    return make()


def _worked_features() -> list[tuple[np.ndarray, list[int]]]:
    return [
        (np.ones((1, 1)), [0] * 64),
        (np.eye(2), [0, 1] * 32),
        (np.array([[0.6, 0.8], [0.8, -0.6]]), [0, 0, 1] * 10),
    ]


@claim(
    method=METHOD, source="abbasi2011, Lemma 11; matrix determinant lemma", level=Level.PROPERTY,
    statement="each visit adds log(1 + width^2) to the log-determinant, so that sum min(1, width^2) <= 2 log det ratio "
    "<= 2 d log(1 + T / (d lam)); widths frozen between doublings are at most sqrt(2) times the fresh ones",
    worked=_worked_features, generated=_features,
    breaks=[
        Wrap("counts_dropped", part="gram", by=lambda f: lambda n, phi, lam: f(0 * n, phi, lam)),
        Wrap("no_square_root", part="widths", by=lambda f: lambda *a: f(*a) ** 2),
        Wrap("half_the_information", part="information", by=lambda f: lambda *a: 0.5 * f(*a)),
        Wrap("switch_at_a_factor_of_four", part="switch_due", by=lambda f: lambda now, before: f(now / 2, before / 2)),
    ],
)  # fmt: skip
def potentials_are_elliptic(case: tuple[np.ndarray, list[int]], room: Room) -> Margin:
    x, visits = case
    phi, d, lam = x[None], x.shape[1], 1.0
    n = _counts(case)[:, None]
    width = room.parts.widths(room.parts.gram(n, phi, lam), phi)[:, 0]  # before each visit, and after the last
    size = lower(room, room.parts.information(lift(room, n), phi, lam))  # visits in the place of stages
    frozen, at = [], 0
    for t in range(len(visits)):
        if t == 0 or bool(np.all(room.parts.switch_due(size[t : t + 1][None], size[at : at + 1][None]))):
            at = t
        frozen.append(width[at])
    own = width[np.arange(len(visits)), visits]
    return Margin.worst([
        Margin.at_most(frozen, np.sqrt(2) * width[:-1], ROUNDING),
        Margin.equal(np.diff(size), np.log1p(own**2), ROUNDING),
        Margin.at_most(np.minimum(1.0, own**2).sum(), 2 * size[-1], ROUNDING),
        Margin.at_most(size[-1], d * np.log1p(len(visits) / (d * lam)), ROUNDING),
    ])  # fmt: skip


def _counts(case: tuple[np.ndarray, list[int]]) -> np.ndarray:
    """Visits of every pair before each visit and after the last: [T + 1, pairs]."""
    n = np.zeros((len(case[1]) + 1, len(case[0])))
    n[np.arange(1, len(n)), case[1]] = 1.0
    return n.cumsum(0)


@claim(
    method=METHOD, source="azar2017, pigeonhole argument", level=Level.PROPERTY,
    statement="of a table, the widths seen along any visits sum to at most 2 sqrt(d T) and at least the same integral, "
    "sum over pairs of 2 (sqrt(n + lam) - sqrt(lam))",
    worked=_worked_features, generated=_features,
    breaks=[
        Wrap("no_shrinking", part="estimate", by=lambda f: lambda n, *a: f(0 * n, *a)),
        Wrap("width_of_one_over_n", part="estimate", by=lambda f: lambda *a: (f(*a)[0], f(*a)[1] ** 2)),
    ],
)  # fmt: skip
def widths_obey_the_pigeonhole(case: tuple[np.ndarray, list[int]], room: Room) -> Margin:
    pairs, visits, lam = len(case[0]), case[1], 1.0
    n, total = _counts(case), 0.0
    for before, i in zip(n, visits, strict=False):
        _, width = room.parts.estimate(lift(room, before[None]), lift(room, 0.0 * before[None]), None, lam)
        total += lower(room, width)[0, i]
    integral = float(2 * (np.sqrt(n[-1] + lam) - np.sqrt(lam)).sum())
    return Margin.worst([
        Margin.at_most(integral, total, ROUNDING),
        Margin.at_most(total, 2 * np.sqrt(pairs * len(visits)), ROUNDING),
    ])  # fmt: skip


@claim(
    method=METHOD, source="derived: maximum of a linear function over an ellipsoid", level=Level.PROPERTY,
    statement="radius times width is the largest (w - w_hat) . phi over |w - w_hat|_Lambda <= radius: attained, never exceeded",
    worked=_worked_features, generated=_features,
    breaks=[NO_BONUS, Wrap("no_square_root", part="widths", by=lambda f: lambda *a: f(*a) ** 2)],
)  # fmt: skip
def bonus_is_the_maximum_over_the_ellipsoid(case: tuple[np.ndarray, list[int]], room: Room) -> Margin:
    x, visits = case
    phi, radius = x[None], 0.7
    n = np.bincount(visits, minlength=len(x)).astype(float)[None]
    Lambda = np.eye(x.shape[1]) + sum(c * np.outer(v, v) for c, v in zip(n[0], x, strict=True))
    b = room.parts.bonus(room.parts.widths(room.parts.gram(n, phi, 1.0), phi), radius)[0]
    root = np.linalg.inv(np.linalg.cholesky(Lambda)).T  # unit vectors u become the ellipsoid's points radius * root u
    angles = np.random.default_rng(0).normal(size=(200, x.shape[1]))
    points = radius * (angles / np.linalg.norm(angles, axis=-1, keepdims=True)) @ root.T
    best = [radius * v @ np.linalg.solve(Lambda, v) / max(np.sqrt(v @ np.linalg.solve(Lambda, v)), 1e-300) for v in x]
    return Margin.worst([Margin.equal(b, best, ROUNDING), Margin.at_most((points @ x.T).max(0), b, ROUNDING)])


STEPS, REPLICAS = 24, 2
DELTA = 1e-4  # the chance of a failure in any of the runs of a claim is below 5 worlds x 2 replicas x 3 methods x 1e-4


def _confident(room: Room, world: World, algorithm: str, steps: int) -> np.ndarray:
    settings: dict[str, Any] = world.settings if world.phi is None else {**world.settings, "phi": world.phi}
    settings = {**settings, "episodes": steps, "constants": "theorem", "delta": DELTA}
    trace = room.run(algorithm, world.online(), steps=steps, n=REPLICAS, **settings)
    return trace.state["f"]


@claim(
    method=METHOD, source=f"{PAPER}; jin2020, Lemma B.5; weissman2003", level=Level.STATISTICAL,
    statement="with the theorem's radius the critics of NORA, LSVI-UCB and UCBVI are never below Q*, and exceed their own "
    "Bellman backup by at most twice the bonus (error level 3e-3)",
    worked=worlds, breaks=[NO_BONUS, CAP_TOO_LOW, CAP_TOO_LOW_SCALED, Setting("bonus_scale_0", bonus_scale=0.0)],
)  # fmt: skip
def critics_are_optimistic(world: World, room: Room) -> Margin:
    best, margins = alive(world.model, stage_q_values(world.model)), []
    for algorithm in ("Nora", "LsviUcb", "Ucbvi"):
        if algorithm == "Ucbvi" and world.phi is not None:
            continue
        for f in _confident(room, world, algorithm, STEPS if algorithm == "Nora" else 8):
            margins.append(Margin.at_most(best, alive(world.model, f), ROUNDING))
    return Margin.worst(margins)


@claim(
    method=METHOD, source=f"{PAPER}; derived", level=Level.STATISTICAL,
    statement="on the good event 0 <= f - T f <= 2 bonus at every stage; with the theorem's radius the event occurs "
    "(error level 1e-4 for each instance)",
    worked=lambda: [30, 1000, 30000],
    breaks=[
        NO_BONUS, OWN_POLICY, NEXT_STAGE_DATA, NEXT_STAGE_DATA_SCALED,
        Wrap("triple_bonus", part="bonus", by=lambda f: lambda *a: 3 * f(*a)),
    ],
)  # fmt: skip
def critics_exceed_their_backup_by_at_most_two_bonuses(visits: int, room: Room) -> Margin:
    model, rng = m0(), np.random.default_rng(visits)
    P, r = np.stack([np.asarray(model.P_at(h)) for h in range(3)]), np.stack([model.r_at(h) for h in range(3)])
    n = visits * np.array([[[1, 2], [3, 1]], [[2, 1], [1, 1]], [[1, 4], [1, 2]]])
    N = rng.multinomial(n, P)
    T, caps = int(n.sum()), np.array([3.0, 2.0, 1.0])
    radius = np.array([
        tabular_radius(2, 2, 3, T, b, delta=DELTA, lam=1.0, known_rewards=True) for b in (2.0, 1.0, 0.0)
    ])  # fmt: skip
    seen = tuple(lift(room, x) for x in (n, N, 0.0 * n))
    gaps = bellman_gaps(model, lower(room, room.parts.optimistic_critic(seen, None, r, radius, caps)))
    most = 2 * radius[:, None, None] / np.sqrt(1 + n)
    return Margin.worst([Margin.at_most(-gaps, 0.0 * gaps, ROUNDING), Margin.at_most(gaps, most, ROUNDING)])
