"""Claims about the robust Bellman operator, the game with a shared budget, and the solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import KnownModel
from polytheory.errors import require
from polytheory.models.ambiguity import KL, L1, ChiSquare, Scenarios, ambiguity
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.claims import Level, Line, Margin, Setting, Wrap, claim
from polytheory.proofs_check.planning.instances import Case
from polytheory.proofs_check.planning.oracles import policies
from polytheory.proofs_check.robust.instances import PRINTED, VALUES, game_program, three_states

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

UNDISCOUNTED = Wrap("undiscounted", part="discounted_values", by=lambda f: lambda v, gamma: v)
SQUARED = Wrap("discount_squared", part="discounted_values", by=lambda f: lambda v, gamma: gamma * gamma * v)
SETS = (
    "tv:0.2",
    "kl:0.1",
    "chi2:0.2",
    "linf:0.1",
    "w1:0.1",
    "reverse-kl:0.1",
    "contamination:0.2",
    "penalised-kl:1",
    "shared-l1:0.4",
)


def sweep(room: Room, text: Any, model: TabularMDP, v: Float[np.ndarray, " S"]) -> Any:
    """The room's ``L v`` as arrays without a replica axis; ``kernel`` [S, A, S] is the fourth entry."""
    part, ball = room.part("robust_sweep"), ambiguity(text)
    if room.name == "reference":
        return room.call(part, ball, model, v)
    access = KnownModel(model).replicate(1)
    torch = require("torch", "scaled")
    found = room.call(part, ball, room.part("problems")(access, torch.float64)[0], v[None])
    return type(found)(*(None if x is None else x[0] for x in found))


def _cases() -> list[Case]:
    return [Case(three_states(g), np.array([1.0, -2.0, 0.5]), np.array([0.5, 3.0, -1.0]), 4.0) for g in (0.9, 0.99)]


@claim(
    method="robust-dp",
    source="iyengar2005, Thm. 3.2; nilim2005; wiesemann2013",
    level=Level.PROPERTY,
    statement="for every kind of set the robust operator contracts by gamma, is monotone, and moves with constants by gamma c",
    worked=_cases,
    breaks=[
        UNDISCOUNTED,
        SQUARED,
        Wrap("centred", part="discounted_values", by=lambda f: lambda v, gamma: f(v - v.mean(), gamma)),
    ],
)
def operator_contracts(case: Case, room: Room) -> Margin:
    m, v = case.model, case.v
    above = v + np.abs(case.w)
    margins = []
    for text in SETS:
        a, b, c = (sweep(room, text, m, x).v for x in (v, above, v + case.shift))
        margins.append(Margin.at_most(a, b, 1e-9))
        margins.append(Margin.equal(c, a + m.gamma * case.shift, 1e-9))
        margins.append(Margin.at_most(np.abs(b - a).max(), m.gamma * np.abs(case.w).max(), 1e-9))
    return Margin.worst(margins)


@claim(
    method="robust-dp",
    source="values computed with convex programs in place of the closed forms",
    level=Level.PROPERTY,
    statement="robust value iteration reaches the robust value of the three-state problem for every set",
    worked=lambda: list(VALUES),
    breaks=[
        UNDISCOUNTED,
        SQUARED,
        Wrap("tv_as_l1", part="worst_l1", by=lambda f: lambda z, p, radius, **k: f(z, p, radius / 2, **k)),
        Wrap(
            "best_case",
            part="worst_case",
            by=lambda f: lambda ball, z, p: (lambda w: w._replace(value=-w.value))(f(ball, -z, p)),
        ),
    ],
)
def values_of_three_states(text: str, room: Room) -> Margin:
    trace = room.run("RobustValueIteration", KnownModel(three_states()), ambiguity=text, tol=1e-10)
    return Margin.equal(trace.state["v"][0], np.array(VALUES[text]), PRINTED)


@claim(
    method="robust-dp",
    source="puterman2005, Thm. 6.6.3, for a monotone operator that moves with constants",
    level=Level.PROPERTY,
    statement="at every sweep of every solver the robust value is within the certified bound",
    worked=lambda: ["l1:0.4", "kl:0.1", "chi2:0.2", "penalised-kl:1"],
    breaks=[
        Line(
            "tenth",
            room="reference",
            module="certificate",
            old="return value, analytic + rounding",
            new="return value, 0.1 * analytic + rounding",
        ),
        Line(
            "tenth_in_torch",
            room="scaled",
            module="certificate",
            old="analytic.double() + rounding",
            new="0.1 * analytic.double() + rounding",
        ),
    ],
)
def bounds_are_honest(text: str, room: Room) -> Margin:
    right = np.array(VALUES[text])
    margins = []
    solvers: tuple[tuple[str, dict[str, Any]], ...] = (
        ("RobustValueIteration", {"stop": "sup"}),
        ("RobustValueIteration", {"order": 3}),
        ("RobustPolicyIteration", {}),
    )
    for solver, settings in solvers:
        for steps in (1, 2, 4):
            state = room.run(solver, KnownModel(three_states()), steps=steps, ambiguity=text, **settings).state
            margins.append(Margin.at_most(np.abs(state["v"][0] - right).max(), float(state["bound"][0]), PRINTED))
    return Margin.worst(margins)


@claim(
    method="robust-dp",
    source="iyengar2005, Thm. 3.1; wiesemann2013, Prop. 5",
    level=Level.PROPERTY,
    statement="saddle point: one fixed kernel is worst from every state, the ordinary optimal value under it is the "
    "robust value, and no kernel of the set does worse to the policy",
    worked=lambda: [x for x in VALUES if not x.startswith("penalised") and x != "tv:0"],
    breaks=[
        Wrap(
            "nominal_kernel",
            part="robust_sweep",
            by=lambda f: (
                lambda ball, world, v, *a: (
                    lambda s: s._replace(**{s._fields[3]: 0 * s[3] + (world.p if hasattr(world, "p") else world.P)})
                )(f(ball, world, v, *a))
            ),
        ),
        SQUARED,
    ],
)
def one_kernel_is_worst_everywhere(text: str, room: Room) -> Margin:
    m = three_states()
    state = room.run("RobustValueIteration", KnownModel(m), ambiguity=text, tol=1e-11).state
    v = state["v"][0]
    found = sweep(room, text, m, v)
    kernel, pi = np.asarray(found[3]), state["pi"][0]
    under = _value(m, kernel, pi)
    ordinary = np.max([_value(m, kernel, np.eye(m.A)[actions]) for actions in policies(m)], axis=0)
    margins = [Margin.equal(under, v, 1e-9), Margin.equal(ordinary, v, 1e-9)]
    rng = np.random.default_rng(3)
    for _ in range(20):  # mixtures with the nominal kernel stay in a convex set
        mixed = (share := rng.random((m.S, 1, 1))) * kernel + (1 - share) * m.P
        margins.append(Margin.at_most(v, _value(m, mixed, pi), 1e-9))
    return Margin.worst(margins)


def _value(m: TabularMDP, kernel: np.ndarray, pi: np.ndarray) -> np.ndarray:
    P, r = np.einsum("sa,sat->st", pi, kernel), (pi * m.r_at()).sum(-1)
    return np.linalg.solve(np.eye(m.S) - m.gamma * P, r)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A one-state game: ``z``, ``p`` [A, n], a budget."""

    z: Float[np.ndarray, "A n"]
    p: Float[np.ndarray, "A n"]
    kappa: float


def games() -> list[Matrix]:
    """Two actions between a good and a bad outcome, where the best policy randomises (values .75, .70, .65, .55, .25);
    and games with actions that nature can push to their minimum."""
    z, p = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.8, 0.2], [0.7, 0.3]])
    found = [Matrix(z, p, kappa) for kappa in (0.1, 0.2, 0.4, 0.8, 2.0)]
    rng = np.random.default_rng(0)
    for _ in range(12):
        A, n = rng.integers(1, 4), rng.integers(1, 5)
        found.append(
            Matrix(
                rng.integers(-3, 4, (A, n)) / 2,
                rng.multinomial(8, np.ones(n) / n, A) / 8,
                float(rng.choice([0.1, 0.5, 1, 3])),
            )
        )
    return found


@claim(
    method="robust-dp",
    source="wiesemann2013; ho2018",
    level=Level.CERTIFICATE,
    statement="the game with a shared L1 budget has the value of its linear program, and the policy found guarantees it",
    worked=games,
    breaks=[
        Wrap("budget_halved", part="shared_budget", by=lambda f: lambda ball, z, p, kappa: f(ball, z, p, kappa / 2)),
        Wrap(
            "first_action",
            part="shared_budget",
            by=lambda f: (
                lambda ball, z, p, kappa: (
                    lambda g: g._replace(policy=0 * g.policy + (g.policy == g.policy[..., :1]) * 1.0)
                )(f(ball, z, p, kappa))
            ),
        ),
        Line(
            "no_floor",
            room="reference",
            module="shared_budget",
            old="binding = (held.cost > 0) & ~at_floor[:, None]",
            new="binding = held.cost > 0",
        ),
        Line(
            "no_floor_in_torch",
            room="scaled",
            module="shared_budget",
            old="binding = (held.cost > 0) & ~at_floor[..., None]",
            new="binding = held.cost > 0",
        ),
    ],
)
def shared_budget_is_its_linear_program(game: Matrix, room: Room) -> Margin:
    found = room.call(room.part("shared_budget"), L1, game.z[None], game.p[None], game.kappa)
    d = np.asarray(found.policy)[0]
    value = game_program(game.z, game.p, game.kappa)
    # what the policy guarantees: the same program with the policy fixed is the game of one action per support point
    guaranteed = _against(d, game)
    return Margin.worst(
        [Margin.equal(found.value[0], np.asarray(value), 1e-8), Margin.equal(guaranteed, np.asarray(value), 1e-8)]
    )


def _against(d: np.ndarray, game: Matrix) -> float:
    """``min_q sum_a d_a q_a . z_a`` with ``sum_a |q_a - p_a| <= kappa`` as a linear program in q."""
    from scipy.optimize import linprog

    A, n = game.z.shape
    k = A * n
    eye = np.eye(k)
    below = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, k)), np.ones((1, k))]])
    bound = np.concatenate([game.p.ravel(), -game.p.ravel(), [game.kappa]])
    sums = np.concatenate([np.kron(np.eye(A), np.ones((1, n))), np.zeros((A, k))], 1)
    cost = np.concatenate([(d[:, None] * game.z).ravel(), np.zeros(k)])
    return float(
        linprog(cost, A_ub=below, b_ub=bound, A_eq=sums, b_eq=np.ones(A), bounds=(0, None), method="highs").fun
    )


@claim(
    method="robust-dp",
    source="derived: Lagrangian duality of nature's problem",
    level=Level.CERTIFICATE,
    statement="the saddle-point gap of a shared budget of relative entropy, chi-square or L1 is rounding, and a shared "
    "budget is never worse for nature than the same budget for one action",
    worked=lambda: games()[:11],  # of three balls each
    breaks=[
        Wrap(
            "uniform_policy",
            part="shared_budget",
            by=lambda f: (
                lambda ball, z, p, kappa: (lambda g: g._replace(gap=abs(z).sum() + 0 * g.gap))(f(ball, z, p, kappa))
            ),
        ),
        Wrap("slope_squared", part="hold_at", by=lambda f: lambda *a: (lambda h: h._replace(slope=h.slope**2))(f(*a))),
    ],
)
def shared_budgets_have_no_gap(game: Matrix, room: Room) -> Margin:
    margins = []
    for ball, part in ((L1, "worst_l1"), (KL, "worst_kl"), (ChiSquare, "worst_chi2")):
        found = room.call(room.part("shared_budget"), ball, game.z[None], game.p[None], game.kappa)
        margins.append(Margin.at_most(found.gap, 0.0, 1e-8))
        lone = [
            float(getattr(room.parts, part)(z, p, min(game.kappa, 2.0)).value)
            for z, p in zip(game.z, game.p, strict=True)
        ]
        if game.kappa <= 2:
            margins.append(Margin.at_most(max(lone), float(found.value[0]), 1e-8))
    return Margin.worst(margins)


def pennies() -> tuple[TabularMDP, np.ndarray]:
    """State 0 with actions a, b; kernel 1 sends a to the good state and b to the bad one, kernel 2 the other way round."""
    first = np.zeros((3, 2, 3))
    first[0, 0, 1] = first[0, 1, 2] = 1
    first[1, :, 1] = first[2, :, 2] = 1
    second = first.copy()
    second[0] = first[0, ::-1]
    r = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    return TabularMDP(first, r, [1.0, 0.0, 0.0], gamma=0.9, name="pennies"), np.stack([first, second])


@claim(
    method="robust-dp",
    source="wiesemann2013, sec. 1: rectangularity cannot be dropped",
    level=Level.PROPERTY,
    statement="with two kernels that hurt different actions the rectangular hull is worth 0 from the start "
    "while each kernel alone is worth 9",
    worked=lambda: [None],
    breaks=[
        Wrap("first_scenario_only", part="worst_scenario", by=lambda f: lambda z, laws: f(z, laws[:1])),
        SQUARED,
    ],
)
def rectangular_hull_of_pennies(_: None, room: Room) -> Margin:
    model, kernels = pennies()
    both = room.run("RobustValueIteration", KnownModel(model), ambiguity=Scenarios(kernels), tol=1e-10).state["v"][0]
    alone = room.run("RobustValueIteration", KnownModel(model), ambiguity=Scenarios(kernels[1:]), tol=1e-10).state["v"][
        0
    ]
    return Margin.equal(np.array([both[0], alone[0]]), np.array([0.0, 9.0]), PRINTED)


def _staying() -> Case:
    """Two states that stay where they are and pay 1 and 0: the bound is attained."""
    model = TabularMDP(np.eye(2)[:, None, :], [[1.0], [0.0]], [0.5, 0.5], gamma=0.9, name="staying")
    return Case(model, np.array([2.0, 0.0]), np.array([0.0, 1.0]), 1.0)


@claim(
    method="robust-dp",
    source="derived; liu2024, Lemma 5.1 is the finite-horizon form",
    level=Level.PROPERTY,
    statement="total variation shrinks the range of values: span(V) <= span(r) / (1 - gamma (1 - rho))",
    worked=lambda: [_staying(), _cases()[0]],
    breaks=[
        Setting("radius_ignored", ambiguity="tv:0"),
        UNDISCOUNTED,
    ],
)
def total_variation_shrinks_the_range(case: Case, room: Room) -> Margin:
    m, rho = case.model, 0.3
    v = np.asarray(case.v)
    limit = np.ptp(m.r_at()) / (1 - m.gamma * (1 - rho))
    state = room.run("RobustValueIteration", KnownModel(m), ambiguity=f"tv:{rho}", tol=1e-8).state
    one = sweep(room, f"tv:{rho}", m, v).v  # and one sweep: span(L v) <= span(r) + gamma (1 - rho) span(v)
    return Margin.worst([
        Margin.at_most(np.ptp(state["v"][0]), limit, 3e-8),
        Margin.at_most(np.ptp(one), np.ptp(m.r_at()) + m.gamma * (1 - rho) * np.ptp(v), 1e-9),
    ])  # fmt: skip
