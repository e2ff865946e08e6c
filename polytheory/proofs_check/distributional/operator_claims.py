"""Claims about the distributional Bellman operator, the projections, the stock and the conditions on objectives."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import energy_distance, wasserstein_distance

from polytheory._typing import Float
from polytheory.errors import require
from polytheory.models.objectives import NAMED, PiecewiseLinear, Target, lacking, objective
from polytheory.models.risk_problems import wager
from polytheory.models.stock import stock_problem
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.distributional import oracles
from polytheory.proofs_check.distributional.instances import (
    NO_STOCK,
    SQUARED,
    UNDISCOUNTED,
    UNDISCOUNTED_STOCK,
)

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

ROUNDING = 1e-11  # some hundred float64 operations on numbers up to about 100
STOCKS = np.arange(-8.0, 9.0)
PRINTED = 5e-7  # the worked numbers have six digits
ERRORS = {  # distance to the exact law of "always action 1" at gamma = 1/2, by number of atoms
    "quantile": {8: 0.271995, 16: 0.077557, 32: 0.051884},
    "categorical": {8: 0.192565, 16: 0.091848, 32: 0.044867},
}


@dataclass(frozen=True, eq=False)
class Laws:
    """Two tables of quantile laws ``[S, C, N]`` on the wager, and a discount."""

    gamma: float
    eta: Float[np.ndarray, "S C N"]
    other: Float[np.ndarray, "S C N"]


def shifted() -> list[Laws]:
    """Two tables that differ by a constant: the operator's modulus is met with equality."""
    base = np.arange(2 * 17 * 4, dtype=float).reshape(2, 17, 4) % 7
    return [Laws(g, base, base + 1.0) for g in (0.5, 0.9, 1.0)]


def tables_of_laws() -> Any:
    """Strategy: quantile laws with atoms at quarters in [-4, 4]."""
    st = require("hypothesis", "conform").strategies
    return st.builds(_tables, st.integers(0, 2**31 - 1), st.sampled_from((0.5, 0.9, 1.0)))


def _tables(seed: int, gamma: float) -> Laws:
    rng = np.random.default_rng(seed)
    eta, other = rng.integers(-16, 17, (2, 2, 17, 4)) / 4
    return Laws(gamma, eta, other)


def applied(room: Room, eta: np.ndarray, gamma: float, action: int) -> tuple[np.ndarray, np.ndarray]:
    """Atoms and probabilities of ``T_pi eta`` for the policy that always takes one action, [S, C, M]."""
    p = stock_problem(wager(gamma=gamma))
    atoms, probs = room.parts.backup(p.reward[0], p.prob[0], p.next_state[0], eta, None, STOCKS, gamma)
    return atoms[:, :, action], probs[:, :, action]


@claim(
    method="distributional-dp",
    source="pires2025; the distributional Bellman operator contracts by gamma in the largest 1-Wasserstein distance, by its "
    "root in Cramer's",
    level=Level.PROPERTY,
    statement="T_pi contracts by gamma in the largest Wasserstein distance over states and stocks and by sqrt(gamma) in "
    "Cramer's, and meets the first for laws that differ by a constant",
    worked=shifted,
    generated=tables_of_laws,
    breaks=[*UNDISCOUNTED, *SQUARED],
)
def operator_contracts(case: Laws, room: Room) -> Margin:
    margins = []
    for action in (0, 1):
        (x, p), (y, q) = (applied(room, eta, case.gamma, action) for eta in (case.eta, case.other))
        for distance, rate in ((wasserstein_distance, case.gamma), (energy_distance, case.gamma**0.5)):
            cells = [(s, c) for s in range(2) for c in range(0, len(STOCKS), 4)]
            after = max(distance(x[i], y[i], p[i], q[i]) for i in cells)
            before = max(
                distance(a, b) for a, b in zip(case.eta.reshape(-1, 4), case.other.reshape(-1, 4), strict=True)
            )
            margins.append(Margin.at_most(after, rate * before, ROUNDING))
            if np.ptp(case.other - case.eta) == 0 and distance is wasserstein_distance:
                margins.append(Margin.equal(after, rate * before, ROUNDING))
    return Margin.worst(margins)


@claim(
    method="distributional-dp",
    source="pires2025, monotonicity from indifference to mixtures and to gamma",
    level=Level.PROPERTY,
    statement="laws that are at least as good at every state and stock are at least as good after T_pi, for positively "
    "homogeneous utilities",
    generated=tables_of_laws,
    breaks=[NO_STOCK, UNDISCOUNTED_STOCK, *UNDISCOUNTED],
)
def operator_is_monotone(case: Laws, room: Room) -> Margin:
    gamma = 0.5 if case.gamma == 0.9 else case.gamma  # so that every stock that is reached is a node
    inside = np.flatnonzero((STOCKS >= -4) & (STOCKS + 4 <= 8 * gamma))
    margins = []
    for judge in (Target(), PiecewiseLinear(0, 1)):
        worth = [judge.utility(STOCKS[:, None] + eta).mean(-1) for eta in (case.eta, case.other)]
        first = (worth[0] >= worth[1])[..., None]
        good, bad = np.where(first, case.eta, case.other), np.where(first, case.other, case.eta)
        for action in (0, 1):
            k = []
            for eta in (good, bad):
                atoms, probs = applied(room, eta, gamma, action)
                k.append((probs * judge.utility(STOCKS[:, None] + atoms)).sum(-1)[:, inside])
            margins.append(Margin.at_most(k[1], k[0], ROUNDING))
    return Margin.worst(margins)


@dataclass(frozen=True, eq=False)
class Mixed:
    """A law on [0, 8] with atoms in any order, and a number of atoms for its projections."""

    atoms: Float[np.ndarray, " K"]
    probs: Float[np.ndarray, " K"]
    n: int


def mixed() -> Any:
    """Strategy: up to 12 atoms at multiples of 1/10."""
    st = require("hypothesis", "conform").strategies

    @st.composite
    def build(draw: Any) -> Mixed:
        k = draw(st.integers(1, 12))
        atoms = np.array(draw(st.lists(st.integers(0, 80), min_size=k, max_size=k))) / 10
        weights = np.array(draw(st.lists(st.integers(0, 5), min_size=k, max_size=k)), dtype=float)
        weights[draw(st.integers(0, k - 1))] += 1
        return Mixed(atoms, weights / weights.sum(), draw(st.integers(2, 9)))

    return build()


def _rounded(projection: Any) -> Any:
    def broken(atoms: Any, probs: Any, support: Any) -> Any:
        step = support[1] - support[0]
        return projection((atoms / step).round() * step, probs, support)

    return broken


LOWER_QUANTILES = tuple(
    Line(f"lower_quantiles_{room}", room=room, module="representations", old=f"2 * {i} + 1)", new=f"2 * {i})")
    for room, i in (
        ("reference", "np.arange(n)"),
        ("scaled", "torch.arange(n, dtype=atoms.dtype, device=atoms.device)"),
    )
)


@claim(
    method="distributional-dp",
    source="quantile: Dabney et al. 2018, Lemma 2; categorical: Rowland et al. 2018, the Cramer projection",
    level=Level.PROPERTY,
    statement="the categorical projection keeps the mean and moves a law by at most dz / 2; the quantile projection moves it "
    "by at most (b - a) / (2 n), and no law of n equal atoms that was tried is nearer",
    worked=lambda: [Mixed(np.array([1.3, 6.1, 2.2]), np.array([0.5, 0.25, 0.25]), 4)],
    generated=mixed,
    breaks=[Wrap("nearest_node_only", part="categorical_projection", by=_rounded), *LOWER_QUANTILES],
)
def projections_stay_near(case: Mixed, room: Room) -> Margin:
    support = np.linspace(0.0, 8.0, case.n)
    x, p = case.atoms[None], case.probs[None]
    on_grid = room.parts.categorical_projection(x, p, support)[0]
    theta = room.parts.quantile_projection(x, p, case.n)[0]
    moved = wasserstein_distance(case.atoms, theta, case.probs)
    rng = np.random.default_rng(0)
    rivals = [theta + step for step in (-0.05, 0.05)] + [rng.uniform(0, 8, case.n) for _ in range(5)]
    rivals += [theta + 0.1 * np.eye(case.n)[i] * sign for i in range(case.n) for sign in (-1, 1)]
    nearest = min(wasserstein_distance(case.atoms, rival, case.probs) for rival in rivals)
    return Margin.worst([
        Margin.equal(on_grid @ support, case.probs @ case.atoms, ROUNDING),
        Margin.at_most(wasserstein_distance(case.atoms, support, case.probs, on_grid), (support[1] - support[0]) / 2, ROUNDING),
        Margin.at_most(moved, np.ptp(case.atoms) / (2 * case.n), ROUNDING),
        Margin.at_most(moved, nearest, ROUNDING),
    ])  # fmt: skip


@claim(
    method="distributional-dp",
    source="contraction by gamma and a projection that moves laws by at most e: the fixed point is within e / (1 - gamma)",
    level=Level.PROPERTY,
    statement="projected evaluation of a policy ends within e / (1 - gamma) of its return law, by the numbers worked out",
    worked=lambda: [(kind, n, x) for kind, row in ERRORS.items() for n, x in row.items()],
    breaks=[*UNDISCOUNTED, *SQUARED],
)
def projected_evaluation(instance: tuple[str, int, float], room: Room) -> Margin:
    kind, n, printed = instance
    p, parts = stock_problem(wager(gamma=0.5, horizon=None)), room.parts
    one_stock = np.array([0.0, 1.0])  # evaluation of a fixed policy needs none; two nodes make a grid
    support = np.linspace(0.0, 8.0, n + 1) if kind == "categorical" else None
    eta = np.zeros((2, 2, n)) if support is None else np.broadcast_to(np.eye(n + 1)[0], (2, 2, n + 1))
    for _ in range(32):  # 8 / 2^32 is far below the printed digits
        atoms, probs = parts.backup(p.reward[0], p.prob[0], p.next_state[0], eta, support, one_stock, 0.5)
        atoms, probs = atoms[:, :, 1], probs[:, :, 1]
        if support is None:
            eta = parts.quantile_projection(atoms, probs, n)
        else:
            eta = parts.categorical_projection(atoms, probs, support)
    found = []
    for s, law in enumerate(_exact_laws(14)):
        atoms, probs = oracles.as_arrays(law)
        x, q = (eta[s, 0], None) if support is None else (support, eta[s, 0])
        found.append(wasserstein_distance(atoms, x, probs, q))
    allowed = (8 / (2 * n)) / (1 - 0.5) + 8 * 0.5**14
    return Margin.worst([Margin.equal(max(found), printed, PRINTED), Margin.at_most(max(found), allowed, ROUNDING)])


@cache
def _exact_laws(depth: int) -> list[oracles.Dist]:
    """Laws of the first ``depth`` rewards of the wager under "always action 1" at gamma = 1/2."""
    model = wager(gamma=0.5, horizon=None)
    of, zero = oracles.outcomes(model), oracles.merged([(Fraction(0), Fraction(1))])
    laws = [zero, zero]
    for _ in range(depth):
        laws = [oracles.merged((r + x / 2, p * q) for p, r, t in of(s, 1) for x, q in laws[t]) for s in range(2)]
    return laws


@claim(
    method="distributional-dp",
    source="pires2025: c_0 + sum_{k<t} gamma^k r_k = gamma^t c_t",
    level=Level.PROPERTY,
    statement="stock and discounted rewards keep their balance along every trajectory",
    generated=lambda: require("hypothesis", "conform").strategies.integers(0, 2**31 - 1),
    breaks=[
        UNDISCOUNTED_STOCK,
        Wrap("reward_after_division", part="next_stock", by=lambda f: lambda c, r, gamma: c / gamma + r),
    ],
)
def stock_keeps_balance(seed: int, room: Room) -> Margin:
    rng = np.random.default_rng(seed)
    gamma, rewards = float(rng.choice([0.5, 0.9])), rng.integers(-8, 9, (6, 5)) / 2
    stock = first = rng.integers(-8, 9, 5) / 2
    paid = np.zeros(5)
    margins = []
    for t, r in enumerate(rewards):
        stock = room.parts.next_stock(stock, r, gamma)
        paid = paid + gamma**t * r
        margins.append(Margin.equal(first + paid, gamma ** (t + 1) * stock, ROUNDING))
    return Margin.worst(margins)


@claim(
    method="distributional-dp",
    source="pires2025, the conditions; expected utilities are indifferent to mixtures [von Neumann and Morgenstern]",
    level=Level.PROPERTY,
    statement="a search over random laws finds a counterexample for exactly those conditions that an objective does not "
    "declare, and those objectives are refused",
    rooms=("reference",),
    worked=lambda: [
        "mean", "cvar:0.25", "optimistic-cvar:0.5", "mean-cvar:0.5:0.25", "threshold:1", "target:1", "squared-target:1",
        "piecewise-linear:0.5:2", "exponential:1", "quantile:0.5", "mean-variance:0.5", "direct-cvar:0.25",
    ],
    breaks=[
        Line("parts_instead_of_mixtures", module="conditions", old="mix([p, 1 - p], [a, b])), _k", new="a), _k"),
        Line("nothing_scaled", module="conditions", old="push(x, 0.0, gamma)", new="x"),
    ],
)  # fmt: skip
def conditions_are_as_declared(text: str, room: Room) -> Margin:
    judge = objective(text)
    found = room.part("check_objective")(judge, gamma=0.5, trials=100)
    declared = {"mixtures": not judge.mixtures, "gamma": judge.degree is None, "lipschitz": False}
    wrong = [name for name, lacks in declared.items() if lacks != (found[name] is not None)]
    refused = lacking(judge, gamma=0.5, horizon=3) is not None
    agree = refused == (declared["mixtures"] or declared["gamma"])
    return Margin.proved(not wrong and agree and text.split(":")[0] in NAMED)
