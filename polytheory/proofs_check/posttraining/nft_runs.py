"""Claims of NFT about its data and its steps: verdicts before the filter, packing, mean step, one old policy."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory.access import Online
from polytheory.errors import ColumnError, require
from polytheory.models import make
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Setting, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, probes, steps_of, toy

Columns = dict[str, Any]


def _verdict_batches() -> Any:
    """Scores 0 and 1 in groups of 2 to 8, rows in any order, groups of one kind among them."""
    st = require("hypothesis.strategies", "conform")

    def made(seed: int, n_groups: int) -> Columns:
        rng = np.random.default_rng(seed)
        group = np.repeat(rng.permutation(20)[:n_groups], rng.integers(2, 9, n_groups))
        group = rng.permutation(group)
        rate = rng.choice([0.0, 0.5, 1.0], 20)[group]
        return {"score": (rng.random(len(group)) < rate) * 1.0, "group": group, "row": np.arange(len(group))}

    return st.builds(made, st.integers(0, 10**6), st.integers(1, 5))


def _worked_batch() -> Columns:
    """Group 3 has one right answer of four, group 7 two of two, group 1 two of three, group 5 none."""
    score = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    group = np.array([3, 7, 1, 3, 3, 7, 3, 5, 1, 5, 1])
    return {"score": score, "group": group, "row": np.arange(11)}


def _by_kept_rows(f: Any) -> Any:
    """Rates of a batch from which some answers are gone already."""
    return lambda c, **s: f({**c, "score": c["score"] * (c["row"] % 3 > 0)}, **s)


@claim(
    method="nft", source="chen2025, Algorithm 1 and sec. 4", level=Level.PROPERTY,
    statement="r_hat is the share of right answers among all of the group's, taken before the filter, which keeps the whole "
    "groups with 0 < r_hat < 1; A = r - r_hat carries verdict and rate through a loss that has advantages only",
    worked=lambda: [_worked_batch()], generated=_verdict_batches,
    breaks=[
        Wrap("one_rate_for_all", part="group_verdicts",
             by=lambda f: lambda c, **s: {**f({**c, "group": 0 * c["group"]}, **s), "group": c["group"]}),
        Wrap("rate_of_some", part="group_verdicts", by=_by_kept_rows),
        Wrap("nothing_dropped", part="mixed_groups", by=lambda f: lambda c, **s: c),
        Wrap("no_limit", part="mixed_groups", by=lambda f: lambda c, prompts=None: f(c)),
        Wrap("right_ones_only", part="is_mixed", by=lambda f: lambda c, prompts=None: f(c, prompts) & (c["verdict"] > 0)),
        Line("sign_forgotten", room="reference", old="np.where(a > 0, 1 - a, -a)", new="1 - a"),
        Line("sign_forgotten_in_torch", room="scaled", old="torch.where(a > 0, 1 - a, -a)", new="1 - a"),
        Wrap("magnitude_only", part="pack_verdicts",
             by=lambda f: lambda c: {**f(c), "advantages": abs(f(c)["advantages"])}),
    ],
    catches=(ColumnError,),
)  # fmt: skip
def rates_come_before_the_filter(given: Columns, room: Room) -> Margin:
    marked = room.parts.group_verdicts(given)
    right = {g: [s for s, h in zip(given["score"], given["group"], strict=True) if h == g] for g in set(given["group"])}
    rates = np.array([sum(right[g]) / len(right[g]) for g in given["group"]])
    margins = [Margin.equal(marked["r_hat"], rates, 0.0), Margin.equal(marked["verdict"], given["score"], 0.0)]
    open_groups = sorted(g for g, scores in right.items() if 0 < sum(scores) < len(scores))
    for prompts in (None, 1):
        rows = [i for i, g in enumerate(given["group"]) if g in open_groups[:prompts]]
        kept = room.parts.mixed_groups(marked, prompts=prompts)
        if kept["row"].tolist() != rows:
            return Margin.proved(False)
        if rows:
            packed = room.parts.pack_verdicts(kept)["advantages"]
            mask = np.arange(3) < 1 + np.arange(len(rows))[:, None] % 3
            mask[:, 0] &= np.arange(len(rows)) % 2 == 0  # a tool's token first
            mask[:, 1] |= ~mask.any(axis=1)
            for spread in (packed, np.where(mask, packed[:, None], 0.0)):
                back = room.parts.unpack_verdicts({"mask": mask, "advantages": spread})
                # one rounding of 1 - r_hat each way
                margins.append(Margin.equal(back["r_hat"], rates[rows], 2.0**-52))
                margins.append(Margin.equal(back["verdict"], given["score"][rows], 0.0))
    return Margin.worst(margins)


@claim(
    method="nft", source="chen2025, Algorithm 1 and Proposition 4.2", level=Level.PROPERTY,
    statement="over all groups of two answers, the mean parameter change of one step with sums over tokens is step_size "
    "grad J / 2 for the weight 1 - r_hat and step_size grad J for the root of the odds",
    worked=lambda: [toy(length=2)], generated=lambda: probes(max_length=1, binary=True),
    breaks=[
        Setting("weight_one", weight="one"), Setting("mean_over_tokens", normalisation="token_mean"),
        Setting("repeated", updates=3), Setting("right_ones_only", negatives="none"),
        Wrap("uphill", part="Composition.gradient", by=lambda f: lambda *a: tuple(-x for x in f(*a))),
        Wrap("nothing_dropped", part="mixed_groups", by=lambda f: lambda c, **s: c),
    ],
    catches=(ColumnError,),
)  # fmt: skip
def mean_step_is_policy_gradient(probe: Probe, room: Room) -> Margin:
    n = probe.lm.N
    rows = [(i, j) for i in range(n) for j in range(i + 1)]  # the order of the two does not matter
    p = np.array([probe.p[i] * probe.p[j] * (2 if i != j else 1) for i, j in rows])
    margins = []
    for weight, factor in (("root_odds", 0.5), ("complement", 0.25)):
        change = steps_of(room, probe, rows, algorithm="Nft", step_size=0.5, normalisation="seq_sum", weight=weight)
        margins.append(Margin.equal(np.tensordot(p, change, axes=1), factor * probe.gradient, EXACT))
    return Margin.worst(margins)


def _hand_step(probe: Probe, theta: np.ndarray, rows: np.ndarray, eps: float) -> np.ndarray:
    """One gradient of the token-mean loss at ``theta``, answers from the probe's policy, token by token."""
    lm, gradient = probe.lm, np.zeros_like(theta)
    now, old = lm.token_log_probs(theta), lm.token_log_probs(probe.theta)
    scores, r_hat = lm.token_scores(theta), float(probe.reward[rows].mean())
    for i in rows:
        for t in np.flatnonzero(lm.mask[i]):
            ratio = np.exp(now[i, t] - old[i, t])
            x = (1 - r_hat * ratio) / (1 - r_hat)
            push = 1.0 if probe.reward[i] else -r_hat / (1 - r_hat) * ratio / max(x, eps)
            gradient -= (1 - r_hat) * push * scores[i, t]
    return gradient / lm.lengths[rows].sum()


def _detached(f: Any) -> Any:
    return lambda c, to: f(c, to) - f(c, to).detach()


@claim(
    method="nft", source="chen2025, Algorithm 1", level=Level.PROPERTY,
    statement="all updates of a step take their ratios to the one old policy that sampled, which becomes the current one "
    "after `refresh` steps and not before",
    worked=lambda: [toy()],
    breaks=[
        Wrap("old_follows", part="token_log_ratio", room="reference", by=lambda f: lambda c, to: 0 * f(c, to)),
        Wrap("old_follows_in_torch", part="token_log_ratio", room="scaled", by=_detached),
        Wrap("never_refreshed", part="Nft.behaviour", by=lambda f: lambda self, old, theta, t: old),
        Wrap("always_refreshed", part="Nft.behaviour", by=lambda f: lambda self, old, theta, t: theta),
        Setting("one_update", updates=1),
    ],
)  # fmt: skip
def one_old_policy_for_all_updates(probe: Probe, room: Room) -> Margin:
    rows, margins = np.array([4, 0, 2, 13, 8]), []  # verdicts 1, 0, 1, 0, 1
    for eps in (1.0, 0.1):
        theta = probe.theta
        for _ in range(3):
            theta = theta - 2.0 * _hand_step(probe, theta, rows, eps)
        change = steps_of(room, probe, [rows.tolist()], algorithm="Nft", step_size=2.0, updates=3, eps=eps)[0]
        margins.append(Margin.equal(change, theta - probe.theta, EXACT))
    model = make("token-mdp")
    access, start = Online(model), room.part("TabularSoftmax").zeros(model.S, model.A)
    runs = [
        room.run("Nft", access, steps=k, n=2, seed=1, policy=start, step_size=0.5, updates=2, refresh=2).state
        for k in (1, 2, 3, 4)
    ]
    margins += [
        Margin.equal(runs[0]["theta_old"], 0 * runs[0]["theta"], 0.0),
        Margin.equal(runs[1]["theta_old"], runs[1]["theta"], 0.0),
        Margin.equal(runs[2]["theta_old"], runs[1]["theta"], 0.0),
        Margin.equal(runs[3]["theta_old"], runs[3]["theta"], 0.0),
        Margin(float(np.abs(runs[2]["theta"] - runs[1]["theta"]).max() - 1e-3), 0.0),
    ]
    return Margin.worst(margins)
