"""Claims of RiskPO: bundles, what they do to dead groups, credit, and the gradient of a bundled measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.errors import require
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, probes, pull, toy
from polytheory.proofs_check.posttraining.risk_claims import (
    ALPHA,
    BETA,
    MEASURES,
    NO_SATURATION,
    SWAPPED,
    TAIL_COUNTED_ONCE,
    TAIL_UP,
    W_MIX,
    W,
    _slope,
)

WHOLE = ("bundle_sample", "bundle_score", "bundle_advantages")


@dataclass(frozen=True, eq=False)
class Batch:
    """Bundles of ``size`` prompts, rows in any order; ``name`` [n] says which row of the unshuffled batch a row is."""

    columns: dict[str, Any]
    name: np.ndarray
    size: int
    worked: bool = False

    def ordered(self) -> dict[str, Any]:
        """The columns with prompt after prompt."""
        return {k: x[np.argsort(self.name)] for k, x in self.columns.items()}

    def formed(self, room: Room) -> dict[str, Any]:
        """The columns with bundle samples and their scores."""
        return room.parts.form_bundles(self.columns, size=self.size)


def worked_batch() -> Batch:
    """Scores 1, 0, 1, 0 and 0, 0, 1, 1 of two prompts, taken in order: bundle scores 1, 0, 2, 1."""
    score = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    columns = {
        "score": score, "group": np.repeat([0, 1], 4), "bundle": np.zeros(8, dtype=np.int64),
        "shuffle": np.tile(np.arange(4.0), 2),
    }  # fmt: skip
    return Batch(columns, np.arange(8), 2, worked=True)


def batches() -> Any:
    """A Hypothesis strategy: one to three bundles of one to four prompts, two to five responses (not the same in all
    bundles), binary, equal and real scores, rows in random order, any names."""
    st = require("hypothesis.strategies", "conform")

    def make(seed: int, n_bundles: int, size: int, kind: str) -> Batch:
        rng = np.random.default_rng(seed)
        responses = rng.integers(2, 6, n_bundles)
        per_prompt = np.repeat(responses, size)
        prompt = np.repeat(np.arange(n_bundles * size), per_prompt)
        n = len(prompt)
        dead = rng.random(n_bundles * size)[prompt] < 0.3
        score = {
            "binary": np.where(dead, 0.0, rng.integers(0, 2, n)), "equal": np.full(n, 0.1), "real": rng.normal(size=n)
        }[kind]  # fmt: skip
        columns = {
            "score": score, "group": rng.permutation(100)[prompt], "bundle": rng.permutation(50)[prompt // size],
            "shuffle": rng.random(n),
        }  # fmt: skip
        order = rng.permutation(n)
        return Batch({k: x[order] for k, x in columns.items()}, order, size)

    return st.builds(
        make, st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 4), st.sampled_from(["binary", "real", "equal"])
    )


@claim(
    method="riskpo", source="ren2025, Algorithm 1 (bundles)", level=Level.PROPERTY,
    statement="every response is in exactly one bundle sample, every sample has one response of each of its B prompts, "
    "the j-th in the order of the shuffle; scores are their sums; no order of rows and no name changes anything",
    worked=lambda: [worked_batch()], generated=batches,
    breaks=[
        Line("by_position", module="bundles", room="reference", old="np.argsort(shuffle[own])", new="np.arange(len(own))"),
        Line("by_position_in_torch", module="bundles", room="scaled", old="order = shuffle.argsort(stable=True)",
             new="order = torch.arange(len(shuffle))"),
        Wrap("first_prompt_counted_for_all", part="members", by=lambda f: lambda s, g, n: f(s, g, n)[:, [0] * n]),
        Wrap("sorted_within_prompts", part="form_bundles",
             by=lambda f: lambda c, size: {**f({**c, "shuffle": c["score"] + 1e-3 * c["shuffle"]}, size=size)}),
        Wrap("mean_for_sum", part="form_bundles", by=lambda f: lambda c, size: _scaled(f(c, size=size), 1 / (size + 1))),
    ],
)  # fmt: skip
def each_response_is_used_once(batch: Batch, room: Room) -> Margin:
    found = batch.formed(room)
    sample, score = found["bundle_sample"], found["score"]
    right, sums = True, np.zeros(len(score))
    for k in np.unique(sample):
        rows = np.flatnonzero(sample == k)
        own = np.unique(found["group"][found["bundle"] == found["bundle"][rows[0]]])
        right &= sorted(found["group"][rows]) == list(own) and len(own) == batch.size
        sums[rows] = sum(score[rows])
        # the rank of every member among its prompt's responses is the same, counted pair by pair
        ranks = {int((found["shuffle"][found["group"] == found["group"][i]] < found["shuffle"][i]).sum()) for i in rows}
        right &= len(ranks) == 1
    margins = [Margin.equal(found["bundle_score"], sums, EXACT * (1 + np.abs(score).max())), Margin.proved(right)]
    again = room.parts.form_bundles(batch.ordered(), size=batch.size)
    place = np.argsort(np.argsort(batch.name))
    margins += [
        Margin.equal(again["bundle_score"][place], found["bundle_score"], 0.0),
        Margin.equal(again["bundle_sample"][place], sample, 0.0),
    ]
    if batch.worked:
        margins.append(Margin.equal(found["bundle_score"], [1, 0, 2, 1] * 2, 0.0))
    return Margin.worst(margins)


def _scaled(columns: Any, factor: float) -> Any:
    return {**columns, "bundle_score": columns["bundle_score"] * factor}


@claim(
    method="riskpo", source="ren2025, sec. 3 against shao2024", level=Level.PROPERTY,
    statement="a prompt whose scores are all equal has no GRPO advantage; with g's constant the responses of a bundle sample "
    "have one exactly where the sample's score is below q_beta, unless credit is sum_mean, which leaves such a prompt without",
    worked=lambda: [worked_batch()], generated=batches,
    breaks=[
        NO_SATURATION,
        Wrap("own_score_for_the_bundle", part="form_bundles",
             by=lambda f: lambda c, size: {**f(c, size=size), "bundle_score": c["score"]}),
        Wrap("centred_like_grpo", part="risk_advantages",
             by=lambda f: lambda c, s, **k: f(c, s, **{**k, "baseline": "bundle"})),
        Wrap("failures_dropped", part="share_credit", by=lambda f: lambda c, **k: _dropped(f(c, **k))),
        Wrap("always_equal_shares", part="shares", by=lambda f: lambda d, largest: 0 * d + 1 / d.shape[1]),
    ],
)  # fmt: skip
def no_dead_groups(batch: Batch, room: Room) -> Margin:
    columns = batch.formed(room)
    score, group, sample = columns["score"], columns["group"], columns["bundle_sample"]
    flat = np.array([np.ptp(score[group == g]) == 0 for g in group])
    grpo = room.parts.group_advantages({"score": score, "group": group})["advantages"]
    whole, _ = room.parts.risk_advantages(columns, None, natural=True)
    sums = np.array([score[sample == k].sum() for k in sample])
    below = sums < np.quantile(sums[np.unique(sample, return_index=True)[1]], 0.8) - 1e-9
    margins = [Margin.equal(grpo[flat], np.zeros(flat.sum()), 0.0)]
    for credit in ("uniform", "std", "score"):
        a = room.parts.share_credit(whole, credit=credit, size=batch.size)["advantages"]
        # at or above q_beta only roundings are left, divided by deviations of at least 1e-3
        margins.append(Margin.proved(bool(((np.abs(a) > 1e-9) == below).all() and (a < 1e-9).all())))
    a = room.parts.share_credit(whole, credit="sum_mean", size=batch.size, largest_share=np.inf)["advantages"]
    centred = score - np.array([score[group == g].mean() for g in group])
    total = np.array([centred[sample == k].sum() for k in sample])
    without = flat & (np.abs(total) > 2e-6)
    # roundings of centred scores, divided by totals of at least 1e-6
    margins.append(
        Margin.equal(a[without], np.zeros(without.sum()), 1e-9 * (1 + np.abs(whole["bundle_advantages"]).max()))
    )
    return Margin.worst(margins)


def _dropped(columns: Any) -> Any:
    return {**columns, "advantages": columns["advantages"] * (columns["score"] != 0)}


@claim(
    method="riskpo", source="RTkenny/RiskPO, core_algos.py (credit)", level=Level.PROPERTY,
    statement="sum_mean shares are proportional to the scores less their prompts' means; bounded shares still sum to the "
    "bundle's advantage and keep their order; std divides by the prompt's deviation or by 1, score weighs failures 3 to 1",
    worked=lambda: [worked_batch()], generated=batches,
    breaks=[
        Wrap("not_bounded", part="shares", by=lambda f: lambda d, largest: f(d, float("inf"))),
        Wrap("not_centred", part="shares", by=lambda f: lambda d, largest: f(d + 0.5, largest)),
        Wrap("no_sum", part="shares", by=lambda f: lambda d, largest: f(d, largest) * d.shape[1]),
        Line("cut_off", module="bundles", room="reference", old="return 1 / size + away / np.maximum(far, 1.0)",
             new="return np.clip(1 / size + away, -largest, largest)"),
        Line("cut_off_in_torch", module="bundles", room="scaled", old="return equal + away / far.clamp(min=1.0)",
             new="return (equal + away).clamp(-largest, largest)"),
        Line("population_deviation", module="bundles", room="reference", old="np.std(score[rows], ddof=1)",
             new="np.std(score[rows])"),
        Line("population_deviation_in_torch", module="bundles", room="scaled", old="/ (count - 1)).sqrt()",
             new="/ count).sqrt()"),
        Line("failures_weigh_less", module="bundles", old="score > 0, 0.5, 1.5", new="score > 0, 1.5, 0.5"),
    ],
)  # fmt: skip
def credit_is_shared_exactly(batch: Batch, room: Room) -> Margin:
    columns, limit = batch.formed(room), 1.25
    score, group, sample = columns["score"], columns["group"], columns["bundle_sample"]
    columns["bundle_advantages"] = whole = np.cos(3.0 * sample + 1)

    def shared(credit: str, **settings: float) -> np.ndarray:
        return room.parts.share_credit(columns, credit=credit, size=batch.size, **settings)["advantages"]

    margins = [
        Margin.equal(shared("uniform"), whole, 0.0),
        Margin.equal(shared("score"), whole * np.where(score > 0, 0.5, 1.5), EXACT),
    ]
    spread = np.array([np.sqrt(((x := score[group == g]) - x.mean()) @ (x - x.mean()) / (len(x) - 1)) for g in group])
    margins.append(Margin.equal(shared("std"), whole / np.where(spread > 1e-3, spread + 1e-6, 1.0), EXACT * 1e3))
    centred = score - np.array([score[group == g].mean() for g in group])
    free, bounded = shared("sum_mean", largest_share=np.inf), shared("sum_mean", largest_share=limit)
    for k in np.unique(sample):
        rows = np.flatnonzero(sample == k)
        total = centred[rows].sum()
        expected = centred[rows] / total if abs(total) > 1e-6 else np.full(len(rows), 1 / len(rows))
        rounding = EXACT * (1 + np.abs(expected).max()) / max(abs(total), 1e-6)
        margins += [
            Margin.equal(free[rows], whole[rows] * expected, rounding),
            Margin.equal(bounded[rows].sum(), whole[rows[0]], EXACT),
            Margin.at_most(np.abs(bounded[rows]).max(), limit * abs(whole[rows[0]]), EXACT),
        ]
        if np.abs(expected).max() <= limit:
            margins.append(Margin.equal(bounded[rows], free[rows], rounding))
    if batch.worked:
        # samples 0 and 2: centred (1/2, -1/2) is shared equally, (1/2, 1/2) too; sample 1: (-1/2, -1/2)
        margins.append(Margin.equal(free, whole / 2, EXACT))
    return Margin.worst(margins)


@claim(
    method="riskpo", source="ren2025, Theorem 1 for bundles", level=Level.PROPERTY,
    statement="with the quantiles of the bundle score's law, E[sum over a bundle sample of A grad log pi] through bundles, "
    "weights and uniform credit is the gradient of the measure of the bundle score, for every measure; for the mean, B grad J",
    worked=lambda: [toy("ones")], generated=lambda: probes(max_length=2),
    breaks=[
        SWAPPED, TAIL_UP, TAIL_COUNTED_ONCE,
        Wrap("standardised", part="risk_advantages", by=lambda f: lambda c, s, **k: _divided(f(c, s, **k))),
        Wrap("own_quantiles", part="tracked", by=lambda f: lambda q, level: f(q, 0.5)),
        Wrap("first_prompt_counted_for_all", part="members", by=lambda f: lambda s, g, n: f(s, g, n)[:, [0] * n]),
    ],
)  # fmt: skip
def bundled_gradient(probe: Probe, room: Room) -> Margin:
    n, p, r = probe.lm.N, probe.p, probe.reward
    first, second = (x.ravel() for x in np.indices((n, n)))
    chance, score = p[first] * p[second], r[first] + r[second]
    rows = np.stack([first, second], axis=1).ravel()
    bundle = np.repeat(np.arange(n * n), 2)
    columns = probe.columns(rows)
    columns |= {"group": np.arange(2 * n * n), "bundle": bundle, "shuffle": np.zeros(2 * n * n)}
    given = {k: columns[k] for k in ("score", "group", "bundle", "shuffle")}
    formed = room.parts.form_bundles(given, size=2)
    atoms = np.unique(score)
    upto = np.array([chance[score <= x].sum() for x in atoms])
    state = {"quantiles": atoms[np.minimum(np.searchsorted(upto, np.arange(1, 20) / 20), len(atoms) - 1)]}
    # the law of the sum by convolution: P(R + R' <= x) = sum_i p_i F(x - R_i), whose derivative is twice that of F alone
    marginal = p[:, None, None] * probe.lm.scores(probe.theta)
    values, place = np.unique(r, return_inverse=True)
    by_value = np.zeros((len(values), *probe.theta.shape))
    np.add.at(by_value, place, marginal)
    mass = np.bincount(place, weights=p)
    sums = (values[:, None] + values[None, :]).ravel()
    slopes = 2 * (mass[:, None, None, None] * by_value[None]).reshape(-1, *probe.theta.shape)
    law = (mass[:, None] * mass[None, :]).ravel()
    margins, scale = [], EXACT * 60 * (1 + np.abs(r).max())
    for measure in MEASURES if probe.worked else ("mvar", "rvar", "seeking"):
        settings = {"measure": measure, "alpha": ALPHA, "beta": BETA, "w": W, "w_mix": W_MIX}
        whole, _ = room.parts.risk_advantages(formed, state, standardise=False, **settings)
        columns["advantages"] = room.parts.share_credit(whole, credit="uniform", size=2)["advantages"]
        slope = pull(room, "reinforce", columns, np.repeat(chance, 2)[:, None] * columns["mask"])[1]
        margins.append(Margin.equal(-probe.in_logits(rows, slope), _slope(sums, slopes, law, measure), scale))
    mean = _slope(sums, slopes, law, "mean")
    return Margin.worst([*margins, Margin.equal(mean, 2 * probe.gradient, scale)])


def _divided(found: Any) -> Any:
    columns, state = found
    return {**columns, "bundle_advantages": columns["bundle_advantages"] / 2}, state
