"""Claims of CoPG: the pair loss, its gradient, its other forms, and what a step of the method is in the mean."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import require
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, probes, pull, toy

BETA_TWICE = Wrap("beta_twice", part="regularised", by=lambda f: lambda s, gap, beta: f(s, gap, 2 * beta))
KL_ADDED = Wrap("kl_added", part="regularised", by=lambda f: lambda s, gap, beta: f(s, -gap, beta))
TIES_DROPPED = Wrap("ties_dropped", part="regularised", by=lambda f: lambda s, gap, beta: f(s, gap, beta) * (s != 0))
BETA_FOR_HALF = Wrap(
    "beta_for_half", part="pair_objective", by=lambda f: lambda gain, margin, beta: f(gain, margin, 2 * beta)
)
NOT_OVER_BETA = Line("not_over_beta", old="return gap * gap / (2 * beta)", new="return gap * gap / 2")
PER_TOKEN = (
    Line("mean_over_tokens", module="pairs", room="reference",
         old='gap = token_log_ratio(columns, "log_probs_ref").sum(axis=1)',
         new='gap = token_log_ratio(columns, "log_probs_ref").sum(axis=1) / columns["mask"].sum(axis=1)'),
    Wrap("mean_over_tokens_in_torch", part="sequence_gap", room="scaled",
         by=lambda f: lambda columns: f(columns) / columns["mask"].sum(1)),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """A probe, a strength of the KL, and weights [N, N] of ordered pairs: a product mu1 mu2, or any set of pairs."""

    probe: Probe
    beta: float
    weight: Float[np.ndarray, "N N"]
    worked: bool = False

    @property
    def gap(self) -> Float[np.ndarray, " N"]:
        """``log pi - log ref`` of every sequence."""
        return self.probe.lm.log_probs(self.probe.theta) - self.probe.lm.log_probs(self.probe.ref)

    @property
    def regularised(self) -> Float[np.ndarray, " N"]:
        """``R - beta log(pi / ref)`` of every sequence."""
        return self.probe.reward - self.beta * self.gap

    @property
    def optimum(self) -> Case:
        """The same case at ``pi*``."""
        lm, probe = self.probe.lm, self.probe
        star = lm.logits_of(lm.tilted(probe.ref, probe.reward, self.beta))
        return replace(self, probe=replace(probe, theta=star, worked=False))

    @property
    def rounding(self) -> float:
        """What slopes and values of pairs are entitled to: they are squares of scores and log-ratios, over beta."""
        largest = np.abs(self.probe.reward).max() + (1 + self.beta) * np.abs(self.gap).max()
        return EXACT * (1 + largest) ** 2 * max(1.0, 1 / self.beta)

    def columns(self) -> dict[str, Any]:
        """All sequences, and all ordered pairs of them."""
        n = np.arange(self.probe.lm.N)
        return {**self.probe.columns(), "pairs": np.array(list(itertools.product(n, n)))}

    def pulled(self, room: Room, part: str = "copg", **settings: Any) -> tuple[float, Float[np.ndarray, "C V"]]:
        """The weighted sum of a pair loss and its gradient in the logits."""
        columns = self.columns()
        value, slopes = pull(room, part, columns, self.weight.ravel(), **settings)
        return float(self.weight.ravel() @ value), self.probe.in_logits(columns["rows"], slopes)


def _product(*laws: Float[np.ndarray, " N"]) -> Float[np.ndarray, "N N"]:
    return np.multiply.outer(*laws)


def worked_case(length: int = 3) -> Case:
    """The quoted instance: beta = 0.3, pairs from the old policy and the reference."""
    probe = toy("ones", length=length)
    return Case(probe, 0.3, _product(probe.lm.probs(probe.old), probe.lm.probs(probe.ref)), True)


def cases(max_length: int = 3) -> Any:
    """A Hypothesis strategy of cases: products of laws, single pairs, sparse sets of pairs; weak and strong KL."""
    st = require("hypothesis.strategies", "conform")

    def make(probe: Probe, beta: float, kind: str, seed: int) -> Case:
        rng, n = np.random.default_rng(seed), probe.lm.N
        weight = {
            "product": lambda: _product(*rng.dirichlet(np.full(n, 0.5), 2)),
            "single": lambda: np.eye(n * n)[rng.integers(n * n)].reshape(n, n),
            "sparse": lambda: rng.random((n, n)) * (rng.random((n, n)) < 0.2),
        }[kind]()
        return Case(probe, beta, weight)

    kinds = st.sampled_from(["product", "single", "sparse"])
    return st.builds(
        make, probes(max_length=max_length), st.sampled_from([0.05, 0.3, 1.0, 4.0]), kinds, st.integers(0, 10**6)
    )


@claim(
    method="copg", source="fletberliac2024, eq. of l; Prop. 3; cohere2025", level=Level.SYMBOLIC,
    statement="for all gains, margins and beta > 0: square + l = gain^2 / (2 beta); d square / dD = -(gain - beta D), so the "
    "differentiated beta / 2 becomes beta; the second derivative is beta, so l is strictly concave in D, also for ties; the "
    "order within a pair does not matter; gain 1/2 gives beta / 2 times IPO's (D - 1 / (2 beta))^2 (sympy)",
    breaks=[BETA_TWICE, KL_ADDED, BETA_FOR_HALF, NOT_OVER_BETA],
)  # fmt: skip
def one_gradient_in_two_forms(_: None, room: Room) -> Margin:
    import sympy

    gain, margin = sympy.symbols("gain D", real=True)
    beta = sympy.Symbol("beta", positive=True)
    square, objective = (room.part(name)(gain, margin, beta) for name in ("pair_square", "pair_objective"))
    zeros = [
        square + objective - gain**2 / (2 * beta),
        sympy.diff(square, margin) + gain - beta * margin,
        sympy.diff(square, margin, 2) - beta,
        sympy.diff(square, margin).subs(margin, gain / beta),
        square - square.subs({gain: -gain, margin: -margin}, simultaneous=True),
        square.subs(gain, sympy.Rational(1, 2)) - beta / 2 * (margin - 1 / (2 * beta)) ** 2,
    ]
    return Margin.proved(all(sympy.simplify(x) == 0 for x in zeros))


@claim(
    method="copg", source="cohere2025, eq. of k completions; fletberliac2024, Prop. 2", level=Level.SYMBOLIC,
    statement="for k = 2, 3, 4 and all scores and log-ratios, sum over pairs of the square over k - 1 has the slope -A_i in "
    "log pi(y_i), A_i the leave-one-out advantage of the scores with the KL in them (sympy)",
    breaks=[
        BETA_TWICE, NOT_OVER_BETA,
        Wrap("self_in_the_mean", part="leave_one_out", by=lambda f: lambda centred, size: centred),
        Wrap("no_baseline", part="centre", by=lambda f: lambda score, total, size: score + 0 * total(score)),
    ],
)  # fmt: skip
def pairs_are_leave_one_out(_: None, room: Room) -> Margin:
    import sympy

    beta = sympy.Symbol("beta", positive=True)
    square, centre, leave_one_out = (room.part(name) for name in ("pair_square", "centre", "leave_one_out"))
    ok = True
    for k in (2, 3, 4):
        r, gap = (np.array(sympy.symbols(f"{x}:{k}", real=True), dtype=object) for x in ("r", "l"))
        pairs = itertools.combinations(range(k), 2)
        loss = sum(square(r[i] - r[j], gap[i] - gap[j], beta) for i, j in pairs) / (k - 1)
        a = leave_one_out(centre(r - beta * gap, np.sum, sympy.Integer(k)), sympy.Integer(k))
        ok &= all(sympy.expand(sympy.diff(loss, x) + a_x) == 0 for x, a_x in zip(gap, a, strict=True))
    return Margin.proved(ok)


@claim(
    method="copg", source="fletberliac2024, Theorem 1", level=Level.PROPERTY,
    statement="at pi* = ref exp(R / beta) / Z the gradient vanishes for any pairs with any weights, and any policy's loss is "
    "larger by (beta / 2) sum w (D - D*)^2: one minimiser wherever the pairs connect all sequences",
    worked=lambda: [worked_case()], generated=cases,
    breaks=[BETA_TWICE, KL_ADDED, BETA_FOR_HALF, TIES_DROPPED, *PER_TOKEN],
)  # fmt: skip
def optimum_whatever_the_pairs(case: Case, room: Room) -> Margin:
    best, w = case.optimum, case.weight
    apart = np.subtract.outer(case.gap, case.gap) - np.subtract.outer(best.gap, best.gap)
    size, rounding = 1 + w.sum(), case.rounding + best.rounding
    margins = []
    for form in ("square", "objective"):
        (value, _), (least, slope) = (x.pulled(room, beta=case.beta, form=form) for x in (case, best))
        margins.append(Margin.equal(slope, np.zeros_like(slope), size * rounding))
        margins.append(Margin.equal(value - least, case.beta / 2 * (w * apart**2).sum(), size * rounding))
    return Margin.worst(margins)


@claim(
    method="copg", source="fletberliac2024, Prop. 1", level=Level.PROPERTY,
    statement="for two completions of the policy itself the mean gradient of l is 2 grad J, the KL of whole sequences included",
    worked=lambda: [worked_case()], generated=cases,
    breaks=[
        BETA_TWICE, KL_ADDED, TIES_DROPPED, *PER_TOKEN,
        Line("gradient_of_half_beta", room="reference", old="slope = -factor * regularised(gain, margin, beta)",
             new="slope = -factor * regularised(gain, margin, beta / 2)"),
        Wrap("beta_for_half", part="pair_objective", room="scaled",
             by=lambda f: lambda gain, margin, beta: f(gain, margin, 2 * beta)),
    ],
)  # fmt: skip
def on_policy_it_is_policy_gradient(case: Case, room: Room) -> Margin:
    case = replace(case, weight=_product(case.probe.p, case.probe.p))
    exact = 2 * case.probe.lm.gradient(case.probe.theta, case.regularised)
    found = [-case.pulled(room, beta=case.beta, form=form)[1] for form in ("square", "objective")]
    return Margin.worst([Margin.equal(x, exact, case.rounding) for x in found])


def _triples(n: int) -> Int[np.ndarray, "g 3"]:
    """Some groups of three, repeats of a completion among them."""
    return np.random.default_rng(n).integers(0, n, (40, 3))


@claim(
    method="copg", source="fletberliac2024, Prop. 2; cohere2025", level=Level.PROPERTY,
    statement="completion by completion, in every group of two and of three, the pair losses over k - 1, the detached form, "
    "and REINFORCE with leave-one-out advantages of scores with the KL in them have one gradient; command_a is 2 beta times it",
    worked=lambda: [worked_case()], generated=lambda: cases(max_length=2),
    breaks=[
        BETA_TWICE, KL_ADDED, TIES_DROPPED, *PER_TOKEN,
        Wrap("self_in_the_mean", part="leave_one_out", by=lambda f: lambda centred, size: centred),
        Wrap("first_against_the_rest", part="all_pairs",
             by=lambda f: lambda c: {**f(c), "pairs": f(c)["pairs"][f(c)["pairs"][:, 0] % 6 == 0]}),
        Wrap("never_rescaled", part="scale_factor", by=lambda f: lambda scale, beta: 1.0),
    ],
)  # fmt: skip
def every_group_is_leave_one_out(case: Case, room: Room) -> Margin:
    n, margins = case.probe.lm.N, []
    for members in (np.array(list(itertools.product(range(n), repeat=2))), _triples(n)):
        k = members.shape[1]
        columns = case.probe.columns(members.ravel())
        columns["group"] = np.repeat(np.arange(len(members)), k)
        given = {"score": columns["score"], "mask": columns["mask"]}
        given |= {name: columns[name] for name in ("log_probs_old", "log_probs_ref", "group")}  # old: the current ones
        scored = room.parts.kl_in_score(given, beta=case.beta)
        a = room.parts.rloo_advantages({name: scored[name] for name in ("score", "group")})["advantages"]
        exact = pull(room, "reinforce", {**columns, "advantages": a})[1]
        columns["pairs"] = pairs = room.parts.all_pairs({"group": columns["group"]})["pairs"]
        for scale, factor in (("policy_gradient", 1.0), ("command_a", 2 * case.beta)):
            settings = {"beta": case.beta, "scale": scale}
            by_pairs = pull(room, "copg", columns, np.full(len(pairs), 1 / (k - 1)), **settings)[1]
            detached = pull(room, "copg_detached", columns, **settings)[1]
            tolerance = 2 * k * case.rounding * max(1.0, factor)
            margins += [Margin.equal(x, factor * exact, tolerance) for x in (by_pairs, detached)]
    return Margin.worst(margins)


@claim(
    method="copg", source="fletberliac2024, Prop. 3", level=Level.PROPERTY,
    statement="with scores 1/4 for the chosen and -1/4 for the other completion, loss and gradient are beta / 2 times IPO's "
    "with tau = beta",
    worked=lambda: [np.array([-3.0, 0.0, 0.5, 4.0])],
    generated=lambda: _margins(),
    breaks=[
        BETA_TWICE, KL_ADDED, NOT_OVER_BETA,
        Wrap("chosen_last", part="pair_gain", by=lambda f: lambda columns: -f(columns)),
    ],
)  # fmt: skip
def fixed_scores_are_ipo(margin: Float[np.ndarray, " m"], room: Room) -> Margin:
    m, found = len(margin), []
    now = np.ravel(np.stack([margin - 5.0, np.full(m, -5.0)], axis=1))[:, None]
    columns = {
        "mask": np.ones((2 * m, 1), dtype=bool), "log_probs": now, "log_probs_ref": np.full((2 * m, 1), -5.0),
        "score": np.tile([0.25, -0.25], m), "pairs": np.arange(2 * m).reshape(m, 2),
    }  # fmt: skip
    for beta in (0.1, 0.5):
        ours, theirs = pull(room, "copg", columns, beta=beta), pull(room, "ipo", columns, tau=beta)
        rounding = EXACT * (1 + np.abs(margin).max() + 1 / beta) ** 2
        found += [Margin.equal(x, beta / 2 * y, rounding) for x, y in zip(ours, theirs, strict=True)]
    return Margin.worst(found)


def _margins() -> Any:
    st = require("hypothesis.strategies", "conform")
    return st.lists(st.floats(-20, 20), min_size=1, max_size=5).map(np.array)


@claim(
    method="copg", source="fletberliac2024 (only differences of scores enter)", level=Level.PROPERTY,
    statement="a constant added to the scores changes no gradient, nor does subtracting the group's mean score",
    worked=lambda: [worked_case()], generated=cases,
    breaks=[
        Wrap("scores_squared", part="finite_scores", by=lambda f: lambda columns: f(columns) ** 2),
        Line("divided_by_the_deviation", old='group_advantages(columns, scale="none")', new="group_advantages(columns)"),
    ],
)  # fmt: skip
def only_differences_matter(case: Case, room: Room) -> Margin:
    plain = case.pulled(room, beta=case.beta)[1]
    probe, group = case.probe, np.zeros(case.probe.lm.N, dtype=np.int64)
    centred = room.parts.centre_scores({"score": probe.reward, "group": group})["score"]
    moved = [replace(case, probe=replace(probe, reward=r)) for r in (probe.reward + 7.5, centred)]
    tolerance = (1 + case.weight.sum()) * max(x.rounding for x in moved)
    return Margin.worst([Margin.equal(x.pulled(room, beta=case.beta)[1], plain, tolerance) for x in moved])
