"""Claims of GRPO: advantages. Baselines that are or are not unbiased, and what dividing by a deviation does."""

from __future__ import annotations

import itertools
from math import comb
from typing import Any

import numpy as np

from polytheory.proofs_check.claims import Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, group_gradient, probes, toy

NO_CENTRE = Wrap("no_baseline", part="centre", by=lambda f: lambda score, total, size: score + 0 * total(score))
OTHER_COUNT = Wrap("mean_over_others_count", part="centre", by=lambda f: lambda x, total, n: x - total(x) / (n - 1))
NO_DEVIATION = Wrap("not_divided", part="standardise", by=lambda f: lambda centred, deviation, eps: centred)
VARIANCE = Wrap("variance_for_deviation", part="standardise", by=lambda f: lambda c, d, eps: c / (d * d + eps))
NO_BESSEL = Wrap("ddof_ignored", part="deviation", by=lambda f: lambda c, total, n, sqrt, ddof: f(c, total, n, sqrt, 0))


@claim(
    method="grpo", source="kool2019; ahmadian2024, eq. 6", level=Level.PROPERTY,
    statement="the mean over all groups of (1/G) sum A_i grad log pi(y_i), A leave-one-out, is grad J for G = 2, 3",
    worked=lambda: [toy()], generated=lambda: probes(max_length=2),
    breaks=[
        NO_CENTRE, OTHER_COUNT,
        Wrap("self_in_the_mean", part="leave_one_out", by=lambda f: lambda centred, size: centred),
        Wrap("upside_down", part="leave_one_out", by=lambda f: lambda centred, size: centred * (size - 1) / size),
    ],
)  # fmt: skip
def leave_one_out_is_unbiased(probe: Probe, room: Room) -> Margin:
    return Margin.worst([_mean_gradient_is(probe, room, size, 1.0, "rloo_advantages") for size in _sizes(probe)])


@claim(
    method="grpo", source="liu2025 (Dr. GRPO); self-inclusive baseline", level=Level.PROPERTY,
    statement="with the group's own mean as baseline and no deviation the mean direction is exactly (1 - 1/G) grad J",
    worked=lambda: [toy()], generated=lambda: probes(max_length=2),
    breaks=[
        NO_CENTRE, OTHER_COUNT,
        Wrap("always_divided", part="group_advantages", by=lambda f: lambda columns, **settings: f(columns)),
    ],
)  # fmt: skip
def own_mean_shrinks_the_gradient(probe: Probe, room: Room) -> Margin:
    margins = [
        _mean_gradient_is(probe, room, size, 1 - 1 / size, "group_advantages", scale="none") for size in _sizes(probe)
    ]
    return Margin.worst(margins)


def _sizes(probe: Probe) -> tuple[int, ...]:
    return (2, 3) if probe.lm.N < 15 or probe.worked else (2,)


def _mean_gradient_is(probe: Probe, room: Room, size: int, factor: float, part: str, **settings: Any) -> Margin:
    found = group_gradient(probe, room, size, part, **settings)
    return Margin.equal(found, factor * probe.gradient, EXACT * (1 + np.abs(probe.reward).max()))


@claim(
    method="grpo", source="shao2024, sec. 4.1.2, for binary scores", level=Level.SYMBOLIC,
    statement="for binary scores the mean direction is c_G(p) grad J; with the population deviation c_2 = 1, c_3 = sqrt 2 for "
    "every p, with Bessel's correction sqrt((G - 1) / G) times that",
    breaks=[NO_CENTRE, NO_DEVIATION, VARIANCE, NO_BESSEL, OTHER_COUNT],
)  # fmt: skip
def two_and_three_have_no_difficulty_bias(_: None, room: Room) -> Margin:
    import sympy

    p = sympy.Symbol("p", positive=True)
    known = {(2, 0): 1, (3, 0): sympy.sqrt(2), (2, 1): 1 / sympy.sqrt(2), (3, 1): 2 / sympy.sqrt(3)}
    return Margin.proved(all(sympy.simplify(_factor(room, g, d, p, sympy) - c) == 0 for (g, d), c in known.items()))


def _factor(room: Room, size: int, ddof: int, p: Any, sympy: Any) -> Any:
    """``c_G(p)`` as the room's operators give it: ``E[(1/G) sum A_i (R_i / p - (1 - R_i) / (1 - p))]`` over score vectors,
    as ``E[grad log pi | R]`` is ``grad p / p`` for R = 1 and ``-grad p / (1 - p)`` for R = 0."""
    centre, deviation, standardise = (room.part(name) for name in ("centre", "deviation", "standardise"))
    whole = 0
    for scores in itertools.product((0, 1), repeat=size):
        if len(set(scores)) == 1:
            continue  # no advantage in a group of equal scores
        r = np.array([sympy.Integer(x) for x in scores], dtype=object)
        centred = centre(r, np.sum, sympy.Integer(size))
        a = standardise(centred, deviation(centred, np.sum, sympy.Integer(size), sympy.sqrt, ddof), 0)
        chance = p ** sum(scores) * (1 - p) ** (size - sum(scores))
        whole += chance * sum(x * (y / p - (1 - y) / (1 - p)) for x, y in zip(a, r, strict=True)) / size
    return whole


@claim(
    method="grpo", source="shao2024, sec. 4.1.2; difficulty bias of liu2025, for binary scores", level=Level.PROPERTY,
    statement="for binary scores the mean direction over all groups is c_G(p) grad J for any policy, and c_8 depends on p "
    "(1.9083520 at p = 0.3584991)",
    worked=lambda: [toy()], generated=lambda: probes(max_length=2, binary=True), breaks=[NO_DEVIATION, VARIANCE, NO_BESSEL],
)  # fmt: skip
def difficulty_bias_is_c_of_p(probe: Probe, room: Room) -> Margin:
    p, margins = probe.J, []
    if 1e-9 < p < 1 - 1e-9:
        for ddof in (0, 1):
            found = group_gradient(probe, room, 2, "group_advantages", ddof=ddof, eps=0.0)
            margins.append(Margin.equal(found, _closed(2, p, ddof) * probe.gradient, EXACT))
            # the size of a coefficient of 8 scores: 7 terms of size up to 1 / (p (1 - p))
            rounding = EXACT / (p * (1 - p))
            margins.append(Margin.equal(_by_parts(room, 8, p, ddof), _closed(8, p, ddof), rounding))
    if probe.worked:
        margins.append(Margin.equal(_by_parts(room, 8, p, 0), 1.9083520, 0.5e-7))
        margins.append(Margin.equal(_by_parts(room, 8, p, 1), 1.7850998, 0.5e-7))
    return Margin.worst(margins) if margins else Margin.proved(True)


def _by_parts(room: Room, size: int, p: float, ddof: int) -> float:
    """``c_G(p)`` from the room's advantages of every number k of ones."""
    k = np.arange(size + 1)
    score = (np.arange(size) < k[:, None]).astype(float)
    given = {"score": score.ravel(), "group": np.repeat(k, size)}
    a = room.parts.group_advantages(given, ddof=ddof, eps=0.0)["advantages"].reshape(score.shape)
    chance = np.array([comb(size, int(i)) for i in k]) * p**k * (1 - p) ** (size - k)
    return float(chance @ (a * (score / p - (1 - score) / (1 - p))).mean(axis=1))


def _closed(size: int, p: float, ddof: int) -> float:
    """``(1 / (p (1 - p))) sum_k C(G, k) p^k (1 - p)^(G - k) sqrt((k / G)(1 - k / G))``, times ``sqrt((G - ddof) / G)``."""
    k = np.arange(1, size)
    weight = np.array([comb(size, int(i)) for i in k]) * p**k * (1 - p) ** (size - k)
    return float(weight @ np.sqrt(k / size * (1 - k / size))) / (p * (1 - p)) * ((size - ddof) / size) ** 0.5


@claim(
    method="grpo", source="shao2024, sec. 4.1.2; TRL GRPOTrainer and verl core_algos, advantages", level=Level.PROPERTY,
    statement="scores 1, 0, 0, 1 get +-0.8660239 (verl's eps), +-0.8658754 (TRL's), +-2/3 (leave one out); equal scores get 0; "
    "groups may have unequal sizes and stand in any order",
    breaks=[
        NO_BESSEL, NO_CENTRE, VARIANCE,
        Wrap("one_group", part="group_advantages", by=lambda f: lambda c, **s: f({**c, "group": 0 * c["group"]}, **s)),
    ],
)  # fmt: skip
def worked_advantages(_: None, room: Room) -> Margin:
    # group 7 is the worked one, group 3 has equal scores whose mean is not exactly theirs, group 5 has another size
    score = np.array([0.1, 1.0, 2.0, 0.0, 0.1, 0.0, 5.0, 1.0, 0.1])
    group = np.array([3, 7, 5, 7, 3, 7, 5, 7, 3])
    sign = np.where(score[group == 7] > 0.5, 1.0, -1.0)
    margins = []
    for eps, size in ((1e-6, 0.8660239), (1e-4, 0.8658754)):
        a = room.parts.group_advantages({"score": score, "group": group}, eps=eps)["advantages"]
        pair = 1.5 / (1.5 * 2**0.5 + eps)
        margins += [
            Margin.equal(a[group == 7], size * sign, 0.5e-7),
            Margin.equal(a[group == 3], np.zeros(3), 0.0),
            Margin.equal(a[group == 5], [-pair, pair], EXACT),
        ]
    a = room.parts.rloo_advantages({"score": score, "group": group})["advantages"]
    return Margin.worst([*margins, Margin.equal(a[group == 7], 2 / 3 * sign, EXACT)])


@claim(
    method="grpo", source="schulman2016, eq. 16", level=Level.PROPERTY,
    statement="generalised advantages are sums of (gamma lambda)^k times temporal differences, and with gamma = lambda = 1 the "
    "mean of sum A_t grad log pi is grad J for any values",
    worked=lambda: [toy()], generated=lambda: probes(max_length=3),
    breaks=[
        Wrap("gamma_dropped", part="gae_advantages", by=lambda f: lambda columns, gamma=1.0, lam=1.0: f(columns, lam=lam)),
        Wrap("whitened", part="gae_advantages", by=lambda f: lambda columns, **s: _whitened(f(columns, **s))),
        Line("value_of_next_forgotten", module="advantages", room="reference", old="gamma * ahead_value - values[i, t]",
             new="0 * ahead_value - values[i, t]"),
        Line("value_of_next_forgotten_in_torch", module="advantages", room="scaled",
             old="gamma * ahead_value - values[:, t]", new="0 * ahead_value - values[:, t]"),
    ],
)  # fmt: skip
def generalised_advantages(probe: Probe, room: Room) -> Margin:
    columns = probe.columns()
    mask = columns["mask"]
    values = np.where(mask, np.cos(columns["states"] + 1.0), np.nan)  # of prefixes; nothing may read the padding
    given = {"score": columns["score"], "mask": mask, "values": values}
    a = room.parts.gae_advantages(given, gamma=0.9, lam=0.7)["advantages"]
    scale = EXACT * (1 + np.abs(probe.reward).max())
    margin = Margin.equal(a, _by_differences(columns["score"], mask, values, 0.9, 0.7), scale)
    a = room.parts.gae_advantages(given)["advantages"]
    mean = probe.in_logits(columns["rows"], probe.p[:, None] * a)
    return Margin.worst([margin, Margin.equal(mean, probe.gradient, scale)])


def _by_differences(score: np.ndarray, mask: np.ndarray, values: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    out = np.zeros(mask.shape)
    for i, length in enumerate(mask.sum(axis=1)):
        v = np.append(values[i, :length], 0.0)
        delta = gamma * v[1:] - v[:-1]
        delta[-1] += score[i]
        for t in range(length):
            out[i, t] = sum((gamma * lam) ** k * delta[t + k] for k in range(length - t))
    return out


def _whitened(columns: Any) -> Any:
    a = columns["advantages"]
    return {**columns, "advantages": a - a.mean()}
