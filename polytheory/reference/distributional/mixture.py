"""Saddle points ``min_c0 max_pi -c0 + E f(c0 + G)``, which a mixture of policies reaches, and the mixture as a policy.

Setting: an objective with ``outer = "min"``, such as the mean of the best share. It is concave in the law of the return, so
that drawing one of two policies at the start of an episode may be worth more than either; objectives that are linear
(``outer = None``) or convex in it (``"max"``) are at their best at a single policy.

Update: keep some policies' laws; find the stock where the upper envelope of their lines ``-c0 + E f(c0 + G_j)`` is lowest; ask
for the best policy from that stock; stop when it rises above the envelope nowhere there.

Guarantee: with exact answers the value is that of the saddle point, and two of the policies that are best at its stock, mixed
so that the slopes to both sides of it do not point downhill, have it: a minimum of a mixture's convex function is where 0 is
between its slopes [sion1958]. A finite model has finitely many laws, of which no one is met twice.

References: [sion1958] Sion, On general minimax theorems, Pacific J. Math. 8(1). [kuhn1953] Kuhn, Extensive games and the
problem of information, Ann. of Math. Studies 28.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import SettingError
from polytheory.models.laws import Law
from polytheory.models.objectives import Objective

ROUNDS = 1000  # best responses that are asked for
NEAR = 1e-12  # floats nearer than this, relative to 1 + their size, are equal


@dataclass(frozen=True, eq=False)
class Saddle:
    """Fields: ``value`` of the envelope at its lowest ``stock``; ``weights`` by index of the answers that are mixed (one or
    two); ``answers`` in the order in which they were asked for."""

    value: Any
    stock: Any
    weights: dict[int, Any]
    answers: list[Any]


def saddle_point(goal: Objective, respond: Callable[[Any], tuple[Any, Law]], stock: Any) -> Saddle:
    """The saddle point from best responses.

    Args:
        respond: stock -> (policy, law of its return), the best or nearly so from that stock.
        stock: where to begin.

    Raises `SettingError` after 1000 answers.
    """
    answers: list[Any] = []
    laws: list[Law] = []
    value = None
    for _ in range(ROUNDS):
        policy, law = respond(stock)
        if value is not None and not _above(line(goal, law, stock), value):
            return Saddle(value, stock, even_weights(goal, laws, stock), answers)
        answers.append(policy)
        laws.append(law)
        stock, value = lowest(goal, laws)
    raise SettingError(f"no saddle point after {ROUNDS} policies; take another objective or a smaller model")


def line(goal: Objective, law: Law, stock: Any) -> Any:
    """``-c0 + E f(c0 + G)``: convex in c0, straight between minus the atoms."""
    return goal.total(goal.value(law.atoms + stock, law.probs), stock)


def envelope(goal: Objective, laws: list[Law], stock: Any) -> Any:
    """The highest line."""
    return max(line(goal, law, stock) for law in laws)


def lowest(goal: Objective, laws: list[Law]) -> tuple[Any, Any]:
    """Stock and value where the envelope is lowest: at minus an atom, or where two lines cross beside the best of these."""
    bends = _bends(laws)
    best = min(bends, key=lambda c: envelope(goal, laws, c))
    crossings = [
        c for left, right in _around(bends, best) for pair in combinations(laws, 2) for c in _crossing(goal, *pair, left, right)
    ]  # fmt: skip
    stock = min([best, *crossings], key=lambda c: envelope(goal, laws, c))
    return stock, envelope(goal, laws, stock)


def even_weights(goal: Objective, laws: list[Law], stock: Any) -> dict[int, Any]:
    """Weights of one or two of the highest lines at a lowest point of the envelope, whose mixture is lowest there too."""
    top = envelope(goal, laws, stock)
    slopes = {
        i: _slopes(goal, law, stock, _bends(laws))
        for i, law in enumerate(laws)
        if not _above(top, line(goal, law, stock))
    }
    for i, (left, right) in slopes.items():
        if left <= 0 <= right:
            return {i: 1}
    down = min(slopes, key=lambda i: slopes[i][0])
    up = max(slopes, key=lambda i: slopes[i][1])
    share = -slopes[down][1] / (slopes[up][1] - slopes[down][1])  # the slope to the right becomes 0
    return {down: 1 - share, up: share}


def _bends(laws: list[Law]) -> list[Any]:
    return sorted({-x for law in laws for x in law.atoms.tolist()})


def _around(bends: list[Any], stock: Any) -> list[tuple[Any, Any]]:
    """The intervals between bends on either side of one of them."""
    i = bends.index(stock)
    return [(bends[j], bends[j + 1]) for j in (i - 1, i) if 0 <= j and j + 1 < len(bends)]


def _crossing(goal: Objective, a: Law, b: Law, left: Any, right: Any) -> list[Any]:
    first, last = (line(goal, a, c) - line(goal, b, c) for c in (left, right))
    return [left + (right - left) * first / (first - last)] if first * last < 0 else []


def _slopes(goal: Objective, law: Law, stock: Any, bends: list[Any]) -> tuple[Any, Any]:
    """Slopes of a line to the left and to the right of a stock; slopes that rounding made are 0."""
    here = line(goal, law, stock)
    below = max((c for c in bends if _above(stock, c)), default=stock - 1)
    above = min((c for c in bends if _above(c, stock)), default=stock + 1)
    left, right = (here - line(goal, law, below)) / (stock - below), (line(goal, law, above) - here) / (above - stock)
    return tuple(x * (abs(x) > 1e-9) if isinstance(x, float) else x for x in (left, right))  # pyright: ignore[reportReturnType]


def _above(x: Any, y: Any) -> bool:
    return bool(x > y + NEAR * (1 + abs(y)) if isinstance(x, float) else x > y)


@dataclass(frozen=True, eq=False)
class MixturePolicy:
    """One of several policies, drawn at the start of an episode with ``weights``.

    It is played as the policy of memory with the same law of episodes [kuhn1953]: every component is followed, and weighed by
    the probability with which it would have taken the actions so far. Memory [n, 2 J]: the stocks of the components, then
    their weights.
    """

    policies: tuple[Any, ...]
    weights: tuple[Any, ...]

    def start(self, n: int) -> Any:
        """Initial stocks and weights."""
        return np.stack([*(p.start(n) for p in self.policies), *(np.array([w] * n) for w in self.weights)], -1)

    def probs(self, m: Any, h: int, s: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n A"]:
        """The components' probabilities, weighed."""
        J = len(self.policies)
        mixed = sum(m[:, J + j, None] * p.probs(m[:, j], h, s) for j, p in enumerate(self.policies))
        return np.asarray(mixed / m[:, J:].sum(-1)[:, None], dtype=float)

    def update(self, m: Any, h: int, s: Any, a: Any, r: Float[np.ndarray, " n"], s2: Any) -> Any:
        """Stocks move, and weights by the probability of the action taken."""
        J, rows = len(self.policies), np.arange(len(s))
        stocks = [p.update(m[:, j], h, s, a, r, s2) for j, p in enumerate(self.policies)]
        weights = [m[:, J + j] * p.probs(m[:, j], h, s)[rows, a] for j, p in enumerate(self.policies)]
        total = sum(weights)
        return np.stack([*stocks, *(w / total for w in weights)], -1)
