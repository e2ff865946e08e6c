"""Settings of the solvers on grids of stocks, their ranges, and the problem that they make of an access."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.access import Grant
from polytheory.errors import ObjectiveError
from polytheory.models.objectives import CVaR, Objective, admit, objective
from polytheory.models.stock import StockProblem, stock_problem
from polytheory.models.stock_grid import Layout, check_grid, layout


@dataclass(frozen=True, eq=False)
class StockSettings:
    """What all solvers on grids share.

    Fields:
        objective: of `polytheory.models.objectives`, or its text such as ``"cvar:0.25"``.
        representation: what is kept of a law: "categorical" (keeps means), "quantile" (nearest in Wasserstein distance), or
            "utility", the one number ``E f(c + G)``: the one for vector rewards, of up to three quantities.
        atoms, stocks: sizes of the grids (stocks: of each quantity); None: the lattice of the returns, or 101 (32 quantiles;
            two quantities 41, three 21).
        stock_range: ends of the stocks, a pair (vectors: for all quantities, or a pair for each); None: minus the possible
            returns.
        rewards: vector rewards of transitions [S, A, S, m] in place of the model's own.
        clock: judge ``gamma^h (c + G)`` at stage h, which makes every expected utility right for a finite horizon.
        insist: run an objective that lacks a condition, as a heuristic.
        tol: of a discounted problem: how much more sweeps could still change a value, > 0.

    Raises `SettingError`, `UnknownNameError`; when a problem is met `ObjectiveError` for an objective that lacks a condition
    on it, `ShapeError` for one that judges another number of quantities, `SettingError` for a grid that is too large.
    """

    objective: Objective | str = CVaR(0.25)  # noqa: RUF009 - objectives are frozen
    representation: str = "categorical"
    atoms: int | None = None
    stocks: int | None = None
    stock_range: Any = None
    rewards: Any = None
    clock: bool = False
    insist: bool = False
    tol: float = 1e-6

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_grid(self)

    def setup(self, access: Any) -> tuple[StockProblem, Objective, Layout]:
        """The outcomes, the admitted objective and the grids on an access."""
        problem, judge = stock_problem(access.model, rewards=self.rewards), objective(self.objective)
        admit(judge, gamma=problem.gamma, horizon=problem.horizon, clock=self.clock, insist=self.insist)
        if self.representation == "utility" and problem.gamma < 1 and judge.degree is None and not self.clock:
            raise ObjectiveError(
                f"objective {judge} does not scale with gamma = {problem.gamma}, so that its utilities have no recursion; take "
                "a finite horizon with clock=True, or representation='categorical'"
            )
        grid = layout(
            problem, judge, representation=self.representation, atoms=self.atoms, stocks=self.stocks,
            stock_range=self.stock_range,
        )  # fmt: skip
        return problem, judge, grid
