"""Claims of GRPO: surrogates and how their terms are averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.errors import require
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Setting, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, probes, pull, row_weights, steps_of, toy


def _normalised_as(name: str) -> Any:
    def by(f: Any) -> Any:
        return lambda mask, unit, counts, **settings: f(mask, unit, counts, **{**settings, "normalisation": name})

    return by


@claim(
    method="grpo", source="liu2025 (length bias); yu2025, sec. 3.3", level=Level.PROPERTY,
    statement="with A = R - J, seq_sum gives grad J, constant and token_sum a fixed multiple of it, and seq_mean another "
    "direction (cosine 0.9435495 on the worked instance)",
    worked=lambda: [toy()], generated=probes,
    breaks=[
        Wrap("always_seq_mean", part="weights", by=_normalised_as("seq_mean")),
        Wrap("always_seq_sum", part="weights", by=_normalised_as("seq_sum")),
        Line("constant_forgets_the_length", module="base", old="(counts.sequences * max_length)", new="counts.sequences"),
    ],
)  # fmt: skip
def which_averages_are_parallel(probe: Probe, room: Room) -> Margin:
    scale = EXACT * (1 + np.abs(probe.reward).max())
    factors = {"seq_sum": 1.0, "constant": 1 / probe.lm.T, "token_sum": float(probe.lm.N)}
    margins = [
        Margin.equal(_direction(probe, room, name), factor * probe.gradient, scale * max(1.0, factor))
        for name, factor in factors.items()
    ]
    if probe.worked:
        g = _direction(probe, room, "seq_mean")
        cosine = (g * probe.gradient).sum() / np.linalg.norm(g) / np.linalg.norm(probe.gradient)
        margins.append(Margin.equal(cosine, 0.9435495, 0.5e-7))
    return Margin.worst(margins)


def _direction(probe: Probe, room: Room, normalisation: str) -> np.ndarray:
    columns = probe.columns()
    columns["advantages"] = probe.reward - probe.J
    w = row_weights(room, columns["mask"], probe.p, normalisation)
    return -probe.in_logits(columns["rows"], pull(room, "reinforce", columns, w)[1])


@claim(
    method="grpo", source="schulman2017, eq. 7", level=Level.SYMBOLIC,
    statement="the clipped surrogate is never above rho A, equals it between the edges, is constant in rho beyond the edge on "
    "the side of the advantage, and with equal widths is min(rho A, A + e |A|): for all rho > 0, A and widths (z3)",
    breaks=[
        Wrap("max_for_min", part="clipped_surrogate",
             by=lambda f: lambda r, a, lo, hi, clip, smaller: f(r, a, lo, hi, clip, lambda x, y: x + y - smaller(x, y))),
        Wrap("clip_only", part="clipped_surrogate",
             by=lambda f: lambda r, a, lo, hi, clip, smaller: f(r, a, lo, hi, clip, lambda x, y: y)),
        Wrap("widths_swapped", part="clipped_surrogate",
             by=lambda f: lambda r, a, lo, hi, clip, smaller: f(r, a, hi, lo, clip, smaller)),
        Line("clip_around_zero", module="losses", old="1 - eps_low, 1 + eps_high) * advantage",
             new="-eps_low, eps_high) * advantage"),
    ],
)  # fmt: skip
def clipping_is_pessimistic(_: None, room: Room) -> Margin:
    z3 = require("z3", "certify")
    rho, other, a, low, high = z3.Reals("rho other a low high")
    surrogate = room.part("clipped_surrogate")

    def smaller(x: Any, y: Any) -> Any:
        return z3.If(x <= y, x, y)

    def clip(x: Any, lo: Any, hi: Any) -> Any:
        return z3.If(x < lo, lo, z3.If(x > hi, hi, x))

    def value(ratio: Any, lo: Any = low, hi: Any = high) -> Any:
        return surrogate(ratio, a, lo, hi, clip, smaller)

    size = z3.If(a >= 0, a, -a)
    facts = [
        value(rho) <= rho * a,
        z3.Implies(z3.And(rho >= 1 - low, rho <= 1 + high), value(rho) == rho * a),
        z3.Implies(z3.And(a > 0, rho > 1 + high, other > 1 + high), value(rho) == value(other)),
        z3.Implies(z3.And(a < 0, rho < 1 - low, other < 1 - low), value(rho) == value(other)),
        # away from these two regions nothing is clipped, however far the ratio
        z3.Implies(z3.And(a > 0, rho < 1 - low), value(rho) == rho * a),
        z3.Implies(z3.And(a < 0, rho > 1 + high), value(rho) == rho * a),
        value(rho, low, low) == smaller(rho * a, a + low * size),
    ]
    solver = z3.Solver()
    solver.set("timeout", 20_000)  # a fact not proved in 20 s counts as not proved
    solver.add(rho > 0, other > 0, low >= 0, low < 1, high >= 0, z3.Not(z3.And(*facts)))
    return Margin.proved(solver.check() == z3.unsat)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Ratios and advantages of single tokens, [n]."""

    ratio: np.ndarray
    advantage: np.ndarray

    def columns(self) -> dict[str, Any]:
        """One token a row; an old log-prob of -1."""
        old = np.full((len(self.ratio), 1), -1.0)
        now = old + np.log(self.ratio)[:, None]
        mask = np.ones(old.shape, dtype=bool)
        return {"mask": mask, "advantages": self.advantage, "log_probs": now, "log_probs_old": old}


def _tokens() -> Any:
    st = require("hypothesis.strategies", "conform")
    ratio = st.floats(-3, 3).map(np.exp).filter(lambda x: min(abs(x - edge) for edge in (0.8, 1.28, 3.0)) > 1e-9)
    pairs = st.lists(st.tuples(ratio, st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0])), min_size=1, max_size=6)
    return pairs.map(lambda x: Tokens(*np.array(x).T))


@claim(
    method="grpo", source="schulman2017, eq. 7; ye2020, eq. 5 (dual clip)", level=Level.PROPERTY,
    statement="the gradient is -rho A grad log pi, and exactly 0 where the clip is active on the advantage's side or, with "
    "a dual clip c, where A < 0 and rho > c; worked losses -1.2, -0.5, 1.5, 0.8, 3.0",
    worked=lambda: [
        Tokens(np.array([1.5, 0.5, 1.5, 0.5, 5.0]), np.array([1.0, 1, -1, -1, -1])),
        Tokens(np.array([1.25, 0.81, 2.9]), np.array([1.0, -1, -1])),  # just inside each edge
    ],
    generated=_tokens,
    breaks=[
        Wrap("no_dual", part="ppo_clip", by=lambda f: lambda c, dual=None, **s: f(c, **s)),
        Wrap("one_width", part="ppo_clip", by=lambda f: lambda c, eps_high=0.2, **s: f(c, eps_high=0.2, **s)),
        Wrap("clip_only", part="clipped_surrogate",
             by=lambda f: lambda r, a, lo, hi, clip, smaller: f(r, a, lo, hi, clip, lambda x, y: y)),
        Wrap("ratio_upside_down", part="token_log_ratio", by=lambda f: lambda columns, to: -f(columns, to)),
        Line("gradient_of_the_clipped", module="losses", room="reference",
             old="    moves = inside & np.where(a < 0, ratio >= 1 - eps_low, ratio <= 1 + eps_high)\n    if dual",
             new="    moves = inside\n    if dual"),
    ],
)  # fmt: skip
def clipped_gradient_vanishes_on_one_side(tokens: Tokens, room: Room) -> Margin:
    r, a = tokens.ratio, tokens.advantage
    value, slope = pull(room, "ppo_clip", tokens.columns(), eps_low=0.2, eps_high=0.28, dual=3.0)
    frozen = ((a > 0) & (r > 1.28)) | ((a < 0) & (r < 0.8)) | ((a < 0) & (r > 3.0))
    # exp(log(rho)) is rho up to 4 rounding errors
    margins = [Margin.equal(slope[:, 0], np.where(frozen, 0.0, -r * a), EXACT * (1 + r.max()))]
    if len(r) == 5 and r[4] == 5.0:
        value = pull(room, "ppo_clip", tokens.columns(), dual=3.0)[0]
        margins.append(Margin.equal(value[:, 0], [-1.2, -0.5, 1.5, 0.8, 3.0], EXACT))
        margins.append(Margin.equal(pull(room, "ppo_clip", tokens.columns())[0][4, 0], 5.0, EXACT))
    return Margin.worst(margins)


@claim(
    method="grpo", source="zheng2025, eq. 5 and sec. 4.2", level=Level.PROPERTY,
    statement="on policy the GSPO gradient is the seq_mean gradient of the token losses; off policy every token of y has the "
    "slope -s A / |y| with s the geometric mean of the ratios, and 0 where s is clipped",
    worked=lambda: [toy()], generated=probes,
    breaks=[
        Line("no_root", module="losses", room="reference",
             old='gap = token_log_ratio(columns, "log_probs_old").sum(axis=1) / lengths',
             new='gap = token_log_ratio(columns, "log_probs_old").sum(axis=1)'),
        Line("no_root_in_torch", module="losses", room="scaled",
             old="gap = gap / sequence_lengths(mask).to(gap.dtype)", new="pass"),
        Wrap("length_of_the_longest", part="sequence_lengths", by=lambda f: lambda mask: 0 * f(mask) + mask.shape[1]),
        Wrap("ratio_upside_down", part="token_log_ratio", by=lambda f: lambda columns, to: -f(columns, to)),
    ],
)  # fmt: skip
def sequence_ratios(probe: Probe, room: Room) -> Margin:
    columns = probe.columns()
    columns["advantages"] = a = probe.reward - probe.J
    n, mask, lengths = probe.lm.N, columns["mask"], probe.lm.lengths
    scale = EXACT * (1 + np.abs(a).max())
    slope = pull(room, "gspo", columns, probe.p)[1]
    by_tokens = pull(room, "ppo_clip", columns, row_weights(room, mask, probe.p, "seq_mean"))[1]
    margins = [Margin.equal(slope, by_tokens, scale)]
    away = {**probe.columns(on_policy=False), "advantages": a}
    s = np.exp((probe.lm.log_probs(probe.theta) - probe.lm.log_probs(probe.old)) / lengths)
    clipped = ((a > 0) & (s > 1.1)) | ((a < 0) & (s < 0.95))
    expected = np.where(mask, np.where(clipped, 0.0, -s * a / lengths)[:, None], 0.0)
    slope = pull(room, "gspo", away, np.ones(n), eps_low=0.05, eps_high=0.1)[1]
    return Margin.worst([*margins, Margin.equal(slope, expected, scale * max(1.0, s.max()))])


@claim(
    method="grpo", source="minimax2025, eq. 4", level=Level.PROPERTY,
    statement="CISPO is REINFORCE with weights min(rho, 1.2): equal to it on policy, and no token with an advantage is ever "
    "without gradient, where PPO's clip silences some",
    worked=lambda: [toy()], generated=probes,
    breaks=[
        Wrap("ppo_instead", part="cispo", by=lambda f: lambda columns, **s: f.__globals__["ppo_clip"](columns)),
        Wrap("never_clipped", part="cispo", by=lambda f: lambda columns, **s: f(columns, ratio_high=1e9)),
        Line("ratio_differentiated", module="losses", room="scaled", old="token_ratio(columns, \"log_probs_old\").detach()",
             new="token_ratio(columns, \"log_probs_old\")"),
    ],
)  # fmt: skip
def clipped_weights_never_drop_a_token(probe: Probe, room: Room) -> Margin:
    columns = {**probe.columns(), "advantages": probe.reward - probe.J}
    away = {**probe.columns(on_policy=False), "advantages": probe.reward - probe.J}
    mask, a = away["mask"], away["advantages"][:, None]
    rho = np.exp(away["log_probs"] - away["log_probs_old"])
    scale = EXACT * (1 + np.abs(a).max())
    same = Margin.equal(pull(room, "cispo", columns, ratio_high=1.2)[1], pull(room, "reinforce", columns)[1], scale)
    slope = pull(room, "cispo", away, ratio_high=1.2)[1]
    return Margin.worst([same, Margin.equal(slope, np.where(mask, -np.minimum(rho, 1.2) * a, 0.0), scale)])


@claim(
    method="grpo", source="shao2024, Algorithm 1; liu2025", level=Level.PROPERTY,
    statement="over all groups of two completions, the mean parameter change of one step is step_size grad J for binary scores "
    "with the population deviation and sums over tokens (c_2 = 1), and half of it for Dr. GRPO",
    worked=lambda: [toy(length=2)], generated=lambda: probes(max_length=1, binary=True),
    breaks=[
        Setting("mean_over_tokens", normalisation="seq_mean"),
        Setting("leave_one_out", advantage="rloo"),
        Setting("repeated", updates=3),
        Wrap("uphill", part="Composition.gradient", by=lambda f: lambda *a: tuple(-x for x in f(*a))),
        Wrap("half_the_batch", part="evaluate", by=lambda f: lambda *a, **s: _halved(f(*a, **s))),
    ],
)  # fmt: skip
def mean_step_is_policy_gradient(probe: Probe, room: Room) -> Margin:
    n = probe.lm.N
    rows = [(i, j) for i in range(n) for j in range(i + 1)]  # the order of the two does not matter
    p = np.array([probe.p[i] * probe.p[j] * (2 if i != j else 1) for i, j in rows])
    settings = {"normalisation": "seq_sum", "ddof": 0, "eps": 0.0, "beta": 0.0, "step_size": 0.5}
    margins = []
    for scale, factor in (("group", 0.5), ("none", 0.25)):
        change = steps_of(room, probe, rows, scale=scale, **settings)
        margins.append(Margin.equal(np.tensordot(p, change, axes=1), factor * probe.gradient, EXACT))
    return Margin.worst(margins)


def _halved(x: Any) -> Any:
    return (x[0] / 2, {k: g / 2 for k, g in x[1].items()}) if isinstance(x, tuple) else x / 2
