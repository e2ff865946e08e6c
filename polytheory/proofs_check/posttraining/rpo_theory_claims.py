"""Claims of RPO: the quantities of its sample-complexity theorem, in the reference room, which alone has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.proofs_check.claims import Level, Line, Margin, Room, claim


@dataclass(frozen=True, eq=False)
class Bandit:
    """Policies and law of compared pairs on A responses."""

    pi: np.ndarray
    base: np.ndarray
    law: np.ndarray
    seed: int


def _bandit(A: int, seed: int) -> Bandit:
    rng = np.random.default_rng(seed)
    law = rng.dirichlet(np.ones(A * A)).reshape(A, A)
    return Bandit(rng.dirichlet(np.ones(A)), rng.dirichlet(np.ones(A)), law, seed)


def _bandits() -> Any:
    from hypothesis import strategies as st

    return st.builds(_bandit, st.integers(2, 5), st.integers(0, 10**6))


@claim(
    method="rpo", source="liu2024, Theorem 5.3 (coverage coefficient)", rooms=("reference",), level=Level.PROPERTY,
    statement="C is the largest ratio of (pi - base) d to the root mean square of d_i - d_j over compared pairs: no direction "
    "exceeds it, one attains it, and without comparisons of the responses in which pi and base differ it is infinite",
    worked=lambda: [_bandit(3, 0)], generated=_bandits,
    breaks=[
        Line("one_sided_law", module="maximin", old="both = law + law.T", new="both = 2 * law"),
        Line("squared", module="maximin", old="np.sqrt(max(0.0, direction @ worst))", new="max(0.0, direction @ worst)"),
        Line("always_covered", module="maximin", old='return float("inf")', new="pass"),
    ],
)  # fmt: skip
def coverage_is_the_worst_ratio(x: Bandit, room: Room) -> Margin:
    def ratio(d: np.ndarray) -> float:
        return float((x.pi - x.base) @ d / np.sqrt((x.law * (d[:, None] - d[None, :]) ** 2).sum()))

    C = room.part("coverage")(x.pi, x.base, x.law)
    rng = np.random.default_rng(x.seed)
    tried = [ratio(d) for d in rng.normal(size=(64, len(x.pi)))]
    # ascent on the ratio from the best direction: another route to its maximum than a linear system
    d = max(rng.normal(size=(64, len(x.pi))), key=ratio)
    for _ in range(400):
        gap = d[:, None] - d[None, :]
        square = float((x.law * gap**2).sum())
        slope = (x.pi - x.base) - ((x.pi - x.base) @ d) * ((x.law * gap).sum(1) - (x.law * gap).sum(0)) / square
        curve = np.linalg.norm(x.law.sum(0) + x.law.sum(1)) / square
        d = d + slope / curve / max(1e-12, abs(float((x.pi - x.base) @ d)))
    split = np.zeros_like(x.law)
    split[0, 0] = 1.0  # only ever compared with itself
    uncovered = room.part("coverage")(np.eye(len(x.pi))[0], np.eye(len(x.pi))[1], split)
    return Margin.worst([
        Margin(1 - max(tried) / C, 1e-9), Margin.equal(ratio(d) / C, 1.0, 1e-3),
        Margin(0.0 if np.isinf(uncovered) else -1.0, 0.5),
    ])  # fmt: skip


@claim(
    method="rpo", source="liu2024, Theorem 5.3", rooms=("reference",), level=Level.PROPERTY,
    statement="bound and settings of the theorem: 1.1720859 for R = 1, N = 10^4, C = 2, KL = 1/2, N_cov / delta = 2000; eta "
    "and the bound fall like N^{-1/2}; beta is N^{-1/2}; with these eta and beta the two error terms balance",
    worked=lambda: [(1.0, 10_000, 2.0, 0.5, float(np.log(2000)))], generated=lambda: _numbers(),
    breaks=[
        Line("c_not_squared", module="maximin", old="(coverage**2 + 1)", new="(coverage + 1)"),
        Line("kl_once", module="maximin", old="4 * kl", new="kl"),
        Line("eta_without_its_constant", module="maximin", old="np.sqrt(24 * log_ratio / n)", new="np.sqrt(log_ratio / n)"),
        Line("beta_of_n", module="maximin", old="return float(n**-0.5)", new="return float(n**-1.0)"),
    ],
)  # fmt: skip
def quantities_of_the_theorem(x: tuple[float, int, float, float, float], room: Room) -> Margin:
    R, n, C, kl, log_ratio = x
    bound, eta, beta = (room.part(name) for name in ("gap_bound", "theorem_eta", "theorem_beta"))
    # with c = (1 + e^R)^2 and noise = 6 log(N_cov / delta) / N the bound is c sqrt(noise) (C^2 + 1) / 4 + beta KL
    c, own = (1 + np.exp(R)) ** 2, eta(R, n, log_ratio)
    noise = 6 * log_ratio / n  # eta^2 c^2 = 4 noise balances both halves
    written_out = c * np.sqrt(noise) * (C**2 + 1) / 4 + beta(n) * kl
    found = [bound(R, n, C, kl, log_ratio), own * c]
    expected = [written_out, 2 * np.sqrt(noise)]
    margins = [Margin.equal(found[k] / expected[k], 1.0, 1e-12) for k in (0, 1)]
    margins.append(Margin.equal(bound(R, 4 * n, C, kl, log_ratio) / bound(R, n, C, kl, log_ratio), 0.5, 1e-12))
    margins.append(Margin.equal(beta(4 * n) * np.sqrt(4 * n), 1.0, 1e-12))
    if x == (1.0, 10_000, 2.0, 0.5, float(np.log(2000))):
        margins.append(Margin.equal(found[0], 1.1720859, 0.5e-7))
    return Margin.worst(margins)


def _numbers() -> Any:
    from hypothesis import strategies as st

    return st.tuples(
        st.floats(0.1, 3), st.integers(1, 10**6), st.floats(0, 10), st.floats(0, 5), st.floats(0.1, 20)
    )  # fmt: skip
