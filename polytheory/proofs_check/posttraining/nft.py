"""Claims of NFT on and off policy (GRPO, the bound of wrong tokens), and what `polytheory verify nft` solves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.errors import ColumnError, require
from polytheory.proofs_check.claims import Demo, Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining import nft_optima as nft_optima
from polytheory.proofs_check.posttraining import nft_runs as nft_runs
from polytheory.proofs_check.posttraining.nft_optima import (
    CONTRAST,
    NO_NEGATIVES,
    UNDIVIDED,
    mixed_probes,
    with_settings,
)
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, probes, pull, row_weights, toy

RATE = 0.3797133367904835  # success rate of the old policy of the worked instance
WEIGHTS = ("complement", "root_odds", "one")
NO_ROOT = Wrap("odds_without_root", part="prompt_weight", by=lambda f: lambda r, name, sqrt: f(r, name, lambda x: x))
TURNED = Wrap("success_for_failure", part="prompt_weight", by=lambda f: lambda r, name, sqrt: f(1 - r, name, sqrt))


@claim(
    method="nft", source="chen2025, Proposition 4.2", level=Level.SYMBOLIC,
    statement="on policy, for every r_hat in (0, 1) and every verdict r in [0, 1], the loss of a token is 0 and its slope "
    "is minus the advantage r - r_hat of Dr. GRPO under the weight 1 - r_hat, minus that of GRPO, (r - r_hat) / "
    "sqrt(r_hat (1 - r_hat)), under the weight sqrt((1 - r_hat) / r_hat), and off policy a wrong token's slope "
    "has the sign that pushes it down wherever the old policy's split is valid, r_hat R < 1 (sympy)",
    breaks=[
        NO_ROOT, TURNED, UNDIVIDED,
        Wrap("verdicts_swapped", part="branch_sum", by=lambda f: lambda r, good, bad: f(1 - r, good, bad)),
        Wrap("wrong_ones_forgotten", part="branch_sum", by=lambda f: lambda r, good, bad: f(r, good, 0 * bad)),
        Wrap("ratio_upside_down", part="negative_ratio", by=lambda f: lambda ratio, r_hat: f(1 / ratio, r_hat)),
    ],
)  # fmt: skip
def on_policy_it_is_grpo(_: None, room: Room) -> Margin:
    import sympy

    weigh, negative, add = (room.part(name) for name in ("prompt_weight", "negative_ratio", "branch_sum"))
    odds, gap, r = sympy.symbols("odds gap r", positive=True)
    r_hat = 1 / (1 + odds)  # every rate in (0, 1), with 1 - r_hat = odds r_hat
    facts = []
    for name, scale in (("complement", 1), ("root_odds", sympy.sqrt(r_hat * (1 - r_hat)))):
        loss = weigh(r_hat, name, sympy.sqrt) * add(r, gap, sympy.log(negative(sympy.exp(gap), r_hat)))
        facts += [loss.subs(gap, 0), sympy.diff(loss, gap).subs(gap, 0) + (r - r_hat) / scale]
    ratio = sympy.exp(gap)
    wrong = sympy.diff(add(0, gap, sympy.log(negative(ratio, r_hat))), gap)
    facts.append(wrong - r_hat * ratio / (1 - r_hat * ratio))  # > 0 where r_hat R < 1
    return Margin.proved(all(sympy.simplify(sympy.expand_log(fact, force=True)) == 0 for fact in facts))


@claim(
    method="nft", source="chen2025, Proposition 4.2", level=Level.PROPERTY,
    statement="on policy with the exact success rate the mean direction is grad J (weight 1 - r), grad J / sqrt(r (1 - r)) "
    "(root of the odds) or grad J / (1 - r) (weight 1), and for groups every token has the slope of REINFORCE "
    "with the advantages of Dr. GRPO or, population deviation, of GRPO: +-1.7320508, 0.5773503 for one right "
    "answer in four",
    worked=lambda: [toy()], generated=lambda: mixed_probes(max_length=2),
    breaks=[
        NO_ROOT, TURNED, NO_NEGATIVES, CONTRAST,
        Wrap("one_rate_for_all", part="group_verdicts",
             by=lambda f: lambda c, **s: {**f({**c, "group": 0 * c["group"]}, **s), "group": c["group"]}),
        Wrap("nothing_dropped", part="mixed_groups", by=lambda f: lambda c, **s: c),
    ],
    catches=(ColumnError,),
)  # fmt: skip
def directions_of_grpo(probe: Probe, room: Room) -> Margin:
    r, margins = probe.J, []
    if 1e-6 < r < 1 - 1e-6:
        columns = {**probe.columns(), "verdict": probe.reward, "r_hat": np.full(probe.lm.N, r)}
        chance = row_weights(room, columns["mask"], probe.p, "seq_sum")
        for weight, factor in zip(WEIGHTS, (1.0, (r * (1 - r)) ** -0.5, 1 / (1 - r)), strict=True):
            slope = pull(room, "nft", columns, chance, weight=weight)[1]
            # rounding of 1 - r and of odds
            margins.append(
                Margin.equal(-probe.in_logits(columns["rows"], slope), factor * probe.gradient, EXACT / (r * (1 - r)))
            )
    rng = np.random.default_rng(probe.lm.N)
    rows = rng.integers(0, probe.lm.N, 24)
    sizes = np.array([4, 2, 3, 8, 7])
    given = {**probe.columns(rows), "group": np.repeat([5, 1, 9, 2, 0], sizes)}
    marked = room.parts.mixed_groups(room.parts.group_verdicts(given))
    for weight, setting in (("complement", {"scale": "none"}), ("root_odds", {"ddof": 0, "eps": 0.0})):
        advantages = room.parts.group_advantages(marked, **setting)["advantages"]
        slope = pull(room, "nft", marked, weight=weight)[1]
        margins.append(Margin.equal(slope, np.where(marked["mask"], -advantages[:, None], 0.0), 10 * EXACT))
    if probe.worked:
        slopes = [-_slopes(room, np.array([1.0, 0.0]), np.array([k, k]), weight="root_odds") for k in (0.25, 0.75)]
        slopes.append(-_slopes(room, np.array([1.0, 0.0]), np.array([0.25, 0.25]), weight="complement"))
        numbers = [[1.7320508, -0.5773503], [0.5773503, -1.7320508], [0.75, -0.25]]
        margins.append(Margin.equal(slopes, numbers, 0.5e-7))
    return Margin.worst(margins)


def _slopes(room: Room, verdict: np.ndarray, r_hat: np.ndarray, ratio: Any = 1.0, **settings: Any) -> np.ndarray:
    return _token_terms(room, verdict, r_hat, ratio, **settings)[1]


def _token_terms(
    room: Room, verdict: np.ndarray, r_hat: np.ndarray, ratio: Any = 1.0, **settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Terms and slopes [n] of answers of one token each, at given ratios."""
    gap = np.log(np.broadcast_to(ratio, verdict.shape))[:, None]
    columns = {
        "mask": np.ones(gap.shape, dtype=bool), "verdict": verdict, "r_hat": r_hat, "log_probs": gap, "log_probs_old": 0 * gap,
    }  # fmt: skip
    terms, slope = pull(room, "nft", columns, **settings)
    return terms[:, 0], slope[:, 0]


@claim(
    method="nft", source="chen2025, eq. 10 at pi = pi_old", level=Level.PROPERTY,
    statement="the loss of every token is exactly 0 on policy, for every weight and every eps <= 1, while its gradient is "
    "not",
    worked=lambda: [toy()], generated=lambda: probes(binary=True),
    breaks=[
        UNDIVIDED,
        Wrap("bound_above_one", part="max_v", by=lambda f: lambda x, eps: f(x, 2.0)),
        Wrap("likelihood_for_ratio", part="token_log_ratio", by=lambda f: lambda c, to: f({**c, to: 0 * c[to]}, to)),
        Wrap("no_gradient", part="branch_sum", by=lambda f: lambda r, good, bad: 0 * f(r, good, bad)),
    ],
)  # fmt: skip
def zero_on_policy(probe: Probe, room: Room) -> Margin:
    columns = {**probe.columns(), "verdict": probe.reward, "r_hat": 0.05 + 0.9 * np.linspace(0, 1, probe.lm.N)}
    margins = []
    for weight in WEIGHTS:
        for eps in (1.0, 0.1):
            terms, slope = pull(room, "nft", columns, weight=weight, eps=eps)
            moved = np.abs(
                slope[columns["mask"]]
            ).min()  # every trained token, right or wrong, at least 0.05 * 0.05 / 0.95
            margins += [Margin.equal(terms, 0 * terms, 0.0), Margin(float(moved - 1e-3), 0.0)]
    return Margin.worst(margins)


@dataclass(frozen=True, eq=False)
class Wrong:
    """Ratios [n], ascending, of wrong tokens of a prompt with success rate ``r_hat``, and a bound ``eps``."""

    ratio: np.ndarray
    r_hat: float
    eps: float


def _wrong_tokens() -> Any:
    st = require("hypothesis.strategies", "conform")
    ratios = st.lists(st.integers(-70, 70), min_size=3, max_size=6, unique=True)
    return st.builds(
        lambda x, r, eps: Wrong(np.exp(np.sort(x) / 10), r, eps),
        ratios, st.floats(0.01, 0.99), st.sampled_from([1.0, 0.5, 0.1, 0.01]),
    )  # fmt: skip


CLAMP = (
    Line("bound_without_gradient", room="reference", old="np.where(inside, -r_hat",
         new="np.where(inside & (bounded > eps), -r_hat"),
    Line("clamp_for_max_v", room="scaled", old="x.detach().clamp(min=eps) + (x - x.detach())", new="x.clamp(min=eps)"),
)  # fmt: skip


@claim(
    method="nft", source="chen2025, eq. 10 (max_v)", level=Level.PROPERTY,
    statement="a wrong token weighs R r / ((1 - r) max(x, eps)), never more than R r / ((1 - r) eps) and never nothing, "
    "however far x = (1 - r R) / (1 - r) is below eps; R up to e^7. Worked: 0.4686990, 0.6121578, 0.6121578, "
    "0.6121578 times R for eps = 1, 0.4686990, 0.6121578, 0.8821721, 6.1215783 for eps = 0.1",
    worked=lambda: [Wrong(np.array([0.5, 1.0, 1.5, 2.5]), RATE, eps) for eps in (1.0, 0.1)], generated=_wrong_tokens,
    breaks=[
        *CLAMP,
        Wrap("eps_ignored", part="max_v", by=lambda f: lambda x, eps: f(x, 0.3)),
        Wrap("ratio_squared", part="negative_ratio", by=lambda f: lambda ratio, r_hat: f(ratio * ratio, r_hat)),
    ],
)  # fmt: skip
def bound_keeps_the_gradient(wrong: Wrong, room: Room) -> Margin:
    ratio, r, eps = wrong.ratio, wrong.r_hat, wrong.eps
    zero, rates = 0 * ratio, np.full(len(ratio), r)
    terms, slope = _token_terms(room, zero, rates, ratio, weight="one", eps=eps)
    x = (1 - r * ratio) / (1 - r)
    weight, bounded = slope / ratio, np.maximum(x, eps)
    # rounding of x, of size R / (1 - r), through 1 / max(x, eps) and log
    rounding = EXACT * (1 + ratio.max()) / (1 - r) / eps
    margins = [
        Margin.equal(weight, r / (1 - r) / bounded, rounding / (1 - r) / eps),
        Margin.equal(terms, -np.log(bounded), rounding),
        Margin.at_most(weight, 0 * weight + r / (1 - r) / eps, rounding / (1 - r) / eps),
        Margin(float(weight.min() - 0.999 * min(r, r / (1 - r))), 0.0),  # x is at most 1 / (1 - r)
    ]
    if r == RATE:
        numbers = {1.0: [0.4686990, 0.6121578, 0.6121578, 0.6121578], 0.1: [0.4686990, 0.6121578, 0.8821721, 6.1215783]}
        margins.append(Margin.equal(weight, numbers[eps], 0.5e-7))
        one, quarter = np.zeros(1), np.full(1, 0.25)
        term, steep = _token_terms(room, one, quarter, 1.3, weight="one", eps=eps)
        loss, per_ratio = {1.0: (0.0, 0.3333333), 0.1: (0.1053605, 0.3703704)}[eps]
        margins.append(Margin.equal([term[0], steep[0] / 1.3], [loss, per_ratio], 0.5e-7))
    return Margin.worst(margins)


@claim(
    method="nft", source="chen2025, Proposition 4.1", level=Level.PROPERTY,
    statement="off policy a right token has the slope -(1 - r) at every R and a wrong one a slope that grows with R, and "
    "none is ever without gradient; the clipped surrogate, equal at R = 1, gives none to right tokens above 1.2 "
    "and wrong ones below 0.8",
    worked=lambda: [Wrong(np.array([0.5, 0.9, 1.0, 1.1, 1.5, 1000.0]), 0.25, 1.0)], generated=_wrong_tokens,
    breaks=[
        *CLAMP,
        Wrap("ppo_instead", part="nft", by=lambda f: lambda c, **s: f.__globals__["ppo_clip"](_advantages(c))),
        Wrap("right_ones_by_ratio", part="nft",
             by=lambda f: lambda c, **s: f.__globals__["ppo_clip"](_advantages(c), eps_high=1e9)),
        NO_NEGATIVES, CONTRAST, Wrap("another_weight", part="nft", by=with_settings(weight="one")),
    ],
)  # fmt: skip
def nothing_is_clipped_away(wrong: Wrong, room: Room) -> Margin:
    ratio, r = wrong.ratio, wrong.r_hat
    rates, zero = np.full(len(ratio), r), 0 * ratio
    right, bad = _slopes(room, zero + 1, rates, ratio, eps=wrong.eps), _slopes(room, zero, rates, ratio, eps=wrong.eps)
    both = _slopes(room, np.array([1.0, 0.0]), rates[:2], 1.0, eps=wrong.eps)
    gap = np.log(ratio)[:, None]
    columns = {"mask": np.ones(gap.shape, dtype=bool), "log_probs": gap, "log_probs_old": 0 * gap}
    clipped = [pull(room, "ppo_clip", {**columns, "advantages": v - rates})[1][:, 0] for v in (zero + 1, zero)]
    margins = [
        Margin.equal(right, zero - (1 - r), EXACT), Margin.equal(both, [r - 1, r], EXACT),
        Margin(float(bad.min()), -1e-12), Margin(float(np.diff(bad).min()), -1e-12),
        Margin.equal(clipped[0][ratio > 1.2], zero[ratio > 1.2], 0.0),
        Margin.equal(clipped[1][ratio < 0.8], zero[ratio < 0.8], 0.0),
    ]  # fmt: skip
    return Margin.worst(margins)


def _advantages(columns: Any) -> Any:
    return {**columns, "advantages": columns["verdict"] - columns["r_hat"]}


def _softmax(**settings: Any) -> Any:
    def build(room: Any, model: Any) -> dict[str, Any]:
        return {"policy": room.part("TabularSoftmax").zeros(model.S, model.A), **settings}

    return build


DEMOS = (
    Demo("token-mdp", "Nft", _softmax(step_size=1.0, updates=4), steps=40, lockstep_steps=12),
    Demo(
        "token-mdp", "Nft",
        _softmax(
            group_size=4, prompts=2, rounds=3, step_size=0.5, updates=2, weight="root_odds", eps=0.1, refresh=2, packed=True
        ),
        steps=40, lockstep_steps=12,
    ),
    Demo("token-mdp", "Nft", _softmax(step_size=1.0, negatives="none", weight="one"), steps=40, lockstep_steps=12),
)  # fmt: skip
