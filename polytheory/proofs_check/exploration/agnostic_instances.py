"""Small layered models and classes on which the claims are checked: worked examples, and generated ones.

Generated probabilities are multiples of 1/4, so that sums are exact; rows may lack mass (the episode ends early). One state,
one action, zero and equal rewards, classes of one and repeated members are among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Array, Float, Int
from polytheory.errors import require
from polytheory.models.layered import Layers, layered, tables_of
from polytheory.models.registry import make
from polytheory.models.tabular import TabularMDP
from polytheory.policy_classes import PolicyClass, everything, make_class, tons

UNIT = 2.0**-53


@dataclass(frozen=True, eq=False)
class Case:
    """A layered model as arrays by layer, a class, a reset law with full support, and a stochastic policy."""

    P: Array
    r: Array
    start: Array
    policies: PolicyClass
    mu: Float[np.ndarray, "H n"]
    probs: Float[np.ndarray, "H n A"]

    @property
    def sizes(self) -> Layers:
        """H, n, A."""
        return Layers(*self.r.shape)

    @property
    def actions(self) -> Int[np.ndarray, "N H n"]:
        """Actions of the class."""
        return self.policies.actions

    @property
    def model(self) -> TabularMDP:
        """The model as a learner meets it."""
        return layered(self.P, self.r, self.start)

    @property
    def rounding(self) -> float:
        """What sums over all paths of returns in [0, H max r] may lose: a few roundings for each product and sum."""
        H, n, A = self.sizes
        return 16 * UNIT * H * (n * A) ** 2 * (1 + H * float(np.max(np.abs(self.r))))


def case_of(name: str, policies: PolicyClass, **options: Any) -> Case:
    """A named model with a class, uniform resets and the uniform policy."""
    P, r, start = tables_of(make(name, **options))
    H, n, A = r.shape
    return Case(P, r, start, policies, np.full((H, n), 1 / n), np.full((H, n, A), 1 / A))


def worked() -> list[Case]:
    """The two-state model with 1-tons, with two layers and all policies; the trap; amplification: episodes end early."""
    return [
        case_of("layered-two-state", tons(3, 2, 2)),
        case_of("layered-two-state", everything(2, 2, 2), horizon=2),
        case_of("psdp-trap", make_class("open-loop", (2, 3, 2))),
        case_of("error-amplification", make_class("open-loop", (3, 2, 2)), horizon=3, last=0.1),
    ]


def cases(*, layers: tuple[int, ...] = (1, 2, 3), most: int = 5) -> Any:
    """Strategy: `Case` with at most 2 states a layer, 2 actions and ``most`` policies."""
    st = require("hypothesis", "conform").strategies

    @st.composite
    def build(draw: Any) -> Case:
        H, n, A = draw(st.sampled_from(layers)), draw(st.integers(1, 2)), draw(st.integers(1, 2))

        def quarters(shape: tuple[int, ...], size: int) -> np.ndarray:
            rows = int(np.prod(shape))
            picks = [draw(st.lists(st.integers(0, size - 1), min_size=4, max_size=4)) for _ in range(rows)]
            return np.reshape([np.bincount(p, minlength=size) / 4 for p in picks], (*shape, size))

        ends = draw(st.booleans())  # one more target: the episode is over
        P = quarters((H, n, A), n + ends)[..., :n]
        P[-1] = 0.0
        eighths = draw(st.lists(st.integers(0, 8), min_size=H * n * A, max_size=H * n * A))
        r = np.reshape(eighths, (H, n, A)) / 8 / H
        N = draw(st.integers(1, most))
        members = draw(st.lists(st.integers(0, A - 1), min_size=N * H * n, max_size=N * H * n))
        weights = np.reshape(draw(st.lists(st.integers(1, 4), min_size=H * n, max_size=H * n)), (H, n))
        return Case(
            P, r, quarters((), n), PolicyClass(np.reshape(members, (N, H, n)), A), weights / weights.sum(1, keepdims=True),
            quarters((H, n), A),
        )  # fmt: skip

    return build()
