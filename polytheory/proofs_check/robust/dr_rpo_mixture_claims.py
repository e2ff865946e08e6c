"""Claims about the language-model form of DR-RPO, on a model whose sequences are all listed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.errors import require
from polytheory.models.tabular_lm import TabularLM
from polytheory.proofs_check.claims import Level, Margin, Wrap, claim

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

SETS = (("tv", 0.25), ("kl", 0.2), ("chi2", 0.3), ("penalised-tv", 0.4), ("penalised-kl", 0.5), ("penalised-chi2", 0.3))
BEST = Wrap(
    "kindest_mixture",
    part="worst_case",
    by=lambda f: lambda ball, z, p: f(ball, -z, p)._replace(value=-f(ball, -z, p).value),
)
NOMINAL = Wrap("nominal_mixture", part="worst_case", by=lambda f: lambda ball, z, p: f(ball, z, p)._replace(law=p))


@dataclass(frozen=True, eq=False)
class Family:
    """Two domains that share one language model (its prompts differ by their rewards alone).

    Fields: ``rewards`` [2, M, N] of M reward models for every sequence; ``nominal`` [2, M] mixtures; a set.
    """

    lm: TabularLM
    theta: np.ndarray
    ref: np.ndarray
    rewards: np.ndarray
    nominal: np.ndarray
    kind: str
    radius: float

    def columns(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores [2 N, M] times 2 N p, so that means over a domain are expectations, and weights of domains [2 N, 2]."""
        p = self.lm.probs(theta) * self.lm.N
        scores = np.concatenate([(self.rewards[j] * p).T for j in range(2)])
        return scores, np.repeat(np.eye(2), self.lm.N, axis=0)

    def expected(self, theta: np.ndarray) -> np.ndarray:
        """``E_pi r`` [2, M] by sums over sequences."""
        return np.einsum("dmn,n->dm", self.rewards, self.lm.probs(theta))


@lru_cache(maxsize=1)
def families() -> tuple[Family, ...]:
    """One for every set."""
    lm, rng, found = TabularLM(3, 2), np.random.default_rng(0), []
    for kind, radius in SETS:
        theta, ref = rng.normal(size=(2, lm.C, lm.V))
        rewards, nominal = rng.normal(size=(2, 3, lm.N)), rng.dirichlet(np.full(3, 4.0), 2)
        found.append(Family(lm, theta, ref, rewards, nominal, kind, radius))
    return tuple(found)


def mixture(room: Room, family: Family, theta: np.ndarray) -> Any:
    """The room's worst mixtures at a policy."""
    scores, phi = family.columns(theta)
    return room.parts.worst_mixture(scores, phi, family.nominal, kind=family.kind, radius=family.radius)


@lru_cache(maxsize=32)
def _program(which: int, domain: int) -> float:
    """The value of one domain by an interior-point method."""
    cp = require("cvxpy", "certify")
    family = families()[which]
    means, p = family.expected(family.theta)[domain], family.nominal[domain]
    w, name = cp.Variable(3), family.kind.removeprefix("penalised-")
    D = {
        "tv": cp.norm1(w - p) / 2, "kl": cp.sum(cp.rel_entr(w, p)), "chi2": cp.sum(cp.multiply(1 / p, cp.square(w - p)))
    }[name]  # fmt: skip
    priced = family.kind != name
    rules = [cp.sum(w) == 1, w >= 0, *([] if priced else [D <= family.radius])]
    problem = cp.Problem(cp.Minimize(means @ w + (family.radius * D if priced else 0)), rules)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return float(problem.value)


@claim(
    method="dr-rpo", source="derived", level=Level.CERTIFICATE,
    statement="the worst mixture of reward models of every domain has the value of its conic program, at exact expectations "
    "of a listed language model",
    worked=families,
    breaks=[
        BEST,
        Wrap("half_the_radius", part="worst_mixture",
             by=lambda f: lambda *given, kind, radius: f(*given, kind=kind, radius=radius / 2)),
    ],
)  # fmt: skip
def mixtures_are_their_programs(family: Family, room: Room) -> Margin:
    which = families().index(family)
    found = mixture(room, family, family.theta)
    margins = [
        Margin.equal(found.nu, [_program(which, j) for j in range(2)], 1e-6)
    ]  # solver tolerance, as in robust-dp
    return Margin.worst([*margins, Margin.equal(found.means, family.expected(family.theta), 1e-12)])


@claim(
    method="dr-rpo", source="danskin", level=Level.PROPERTY,
    statement="the policy gradient with the robust scores, summed over all sequences, is the derivative of the worst-case "
    "value of all domains",
    worked=families,
    breaks=[
        NOMINAL,
        Wrap("domains_forgotten", part="worst_mixture",
             by=lambda f: lambda s, phi, p, **k: (lambda m: m._replace(score=s.sum(-1)))(f(s, phi, p, **k))),
    ],
)  # fmt: skip
def robust_scores_are_the_gradient_of_the_worst_case(family: Family, room: Room) -> Margin:
    lm, step = family.lm, 1e-5
    found = mixture(room, family, family.theta)
    # d/dtheta of sum_i score_i, with scores r p N / N per domain: p grad log p
    by_sequence = np.asarray(found.score).reshape(2, lm.N).sum(0) / lm.N
    gradient = np.tensordot(by_sequence, lm.scores(family.theta), axes=1)
    turn = np.random.default_rng(1).normal(size=family.theta.shape)
    ends = [float(mixture(room, family, family.theta + s * step * turn).nu.sum()) for s in (1, -1)]
    # central differences: third derivatives of size 100, and rounding 1e-15 / step
    return Margin.equal((gradient * turn).sum(), (ends[0] - ends[1]) / (2 * step), 1e-8 + 100 * step**2)


@claim(
    method="dr-rpo", source="derived; as in robust regularised planning with one step", level=Level.PROPERTY,
    statement="saddle point with a reference policy: repeated best replies ref exp(score / eta), averaged, reach a policy "
    "no other policy improves on at the mixtures that are worst for it",
    worked=lambda: [f for f in families() if f.kind in ("kl", "penalised-kl")],
    breaks=[BEST, NOMINAL],
)  # fmt: skip
def optimum_is_the_reference_tilted_by_the_worst_mixture(family: Family, room: Room) -> Margin:
    lm, eta = family.lm, 1.0
    laws, logits = np.array(family.nominal), family.ref
    for _ in range(60):
        reward = np.einsum("dm,dmn->n", laws, family.rewards)
        logits = lm.logits_of(lm.tilted(family.ref, reward, eta))
        found = mixture(room, family, logits)
        away = np.asarray(found.law) - laws
        if np.abs(away).max() < 1e-6:  # the values below move with its square
            break
        laws = laws + 0.6 * away

    def worth(theta: np.ndarray, values: np.ndarray) -> float:
        return float(values.sum()) - eta * lm.kl(theta, family.ref)

    own = worth(logits, _worst_values(family, logits))
    against = worth(logits, (np.asarray(found.law) * family.expected(logits)).sum(-1))
    charge = own - against  # what nature pays, 0 for balls
    rng, margins = np.random.default_rng(0), []
    for size in (0.01, 0.3, 2.0):
        other = logits + size * rng.normal(size=logits.shape)
        margins.append(Margin.at_most(worth(other, _worst_values(family, other)), own, 1e-9))
    reply = lm.logits_of(lm.tilted(family.ref, np.einsum("dm,dmn->n", np.asarray(found.law), family.rewards), eta))
    best = worth(reply, (np.asarray(found.law) * family.expected(reply)).sum(-1)) + charge
    return Margin.worst([*margins, Margin.equal(best, own, 1e-9)])


def _worst_values(family: Family, theta: np.ndarray) -> np.ndarray:
    """Worst values of the domains, from the reference's worst laws."""
    from polytheory.models.factor_ambiguity import ball_of
    from polytheory.reference.robust.bellman import worst_case

    ball = ball_of(family.kind, family.radius, "nominal")
    assert ball is not None
    return worst_case(ball, family.expected(theta), family.nominal).value
