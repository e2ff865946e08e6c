"""Claims of RiskPO: weights of scores as derivatives of quantile integrals, and tracked quantiles."""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np

from polytheory.errors import SettingError, require
from polytheory.proofs_check.claims import Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, probes, pull, toy, with_theta

ALPHA, BETA, W, W_MIX = 0.2, 0.8, 1.5, 1.5
MEASURES = ("mvar", "mvar_released", "rvar", "cvar", "mean", "seeking")

NO_SATURATION = Wrap("no_saturation", part="rise", by=lambda f: lambda z, a, b, positive: positive(z - a))
SWAPPED = Wrap("quantiles_swapped", part="rise", by=lambda f: lambda z, a, b, positive: f(z, b, a, positive))
TAIL_UP = Wrap("tail_upside_down", part="tail", by=lambda f: lambda z, a, positive: -f(z, a, positive))
UPPER_TAIL = Wrap("upper_tail", part="tail", by=lambda f: lambda z, a, positive: -positive(z - a))
TAIL_COUNTED_ONCE = Line(
    "tail_counted_once",
    module="risk",
    old="return (1 + w) * tail(z, a, positive) + g",
    new="return w * tail(z, a, positive) + g",
)


@claim(
    method="riskpo", source="ren2025, Theorem 1, definition of g", level=Level.SYMBOLIC,
    statement="g(z, a, b) = (a - z)^+ - (b - z)^+ for all z and a <= b; it is a - b up to a, z - b between and 0 from b on, "
    "so never positive (z3)",
    breaks=[
        NO_SATURATION, SWAPPED,
        Line("constant_dropped", module="risk", old="return rise(z, a, b, positive) + a - b",
             new="return rise(z, a, b, positive)"),
        Line("constant_turned", module="risk", old="return rise(z, a, b, positive) + a - b",
             new="return rise(z, a, b, positive) + b - a"),
    ],
)  # fmt: skip
def two_forms_of_g(_: None, room: Room) -> Margin:
    z3 = require("z3", "certify")
    z, a, b = z3.Reals("z a b")

    def positive(x: Any) -> Any:
        return z3.If(x > 0, x, 0)

    g = room.part("distortion")(z, a, b, positive)
    shape = z3.If(z <= a, a - b, z3.If(z >= b, z3.RealVal(0), z - b))
    solver = z3.Solver()
    solver.add(a <= b, z3.Or(g != positive(a - z) - positive(b - z), g != shape, g > 0))
    return Margin.proved(solver.check() == z3.unsat)


@claim(
    method="riskpo", source="ren2025 against RTkenny/RiskPO, core_algos.py", level=Level.SYMBOLIC,
    statement="the paper's mixture is (1 + w_mix)(beta - alpha) times that of the released code for every score, level and "
    "quantile exactly when 1 + w = w_mix (beta - alpha) / alpha, with or without the constant of g (sympy)",
    breaks=[
        TAIL_COUNTED_ONCE,
        Line("levels_forgotten", module="risk", old="extra = tail(z, a, positive) / alpha if",
             new="extra = tail(z, a, positive) if"),
        Line("not_over_the_range", module="risk", old="(w_mix * extra + g / (beta - alpha))", new="(w_mix * extra + g)"),
        Line("not_normalised", module="risk", old="(w_mix * extra + g / (beta - alpha)) / (w_mix + 1)",
             new="w_mix * extra + g / (beta - alpha)"),
    ],
)  # fmt: skip
def paper_and_code_are_proportional(_: None, room: Room) -> Margin:
    import sympy

    z, a, b, w = sympy.symbols("z a b w", real=True)
    alpha, width, w_mix = sympy.symbols("alpha width w_mix", positive=True)
    weight, beta = room.part("weight"), alpha + width

    def gap(w: Any, natural: bool) -> Any:
        # (x)^+ as a free symbol of x: the two forms use it in the same places
        settings = {
            "alpha": alpha, "beta": beta, "w": w, "w_mix": w_mix, "natural": natural, "positive": sympy.Function("positive")
        }  # fmt: skip
        paper, code = (weight(z, a, b, measure=m, **settings) for m in ("mvar", "mvar_released"))
        return sympy.cancel(paper - (1 + w_mix) * width * code)

    matching = w_mix * width / alpha - 1
    # the gap is linear in w, with the tail as its slope: it vanishes at one w only
    slope = sympy.Function("positive")(a - z)
    return Margin.proved(all(sympy.cancel(gap(w, n) - (matching - w) * slope) == 0 for n in (True, False)))


@claim(
    method="riskpo", source="ren2025, Theorem 1, for discrete laws", level=Level.PROPERTY,
    statement="away from jumps E[weight grad log pi] is the gradient of RVaR, CVaR, both mixtures, the upper tail and the "
    "mean, for any discrete law and with or without the constant; a level on a jump is refused "
    "(dMVaR = 0.2390776986 in one logit)",
    worked=lambda: [toy("ones")], generated=probes,
    breaks=[
        NO_SATURATION, SWAPPED, TAIL_UP, UPPER_TAIL, TAIL_COUNTED_ONCE,
        Line("interpolated", module="risk", room="reference", old="return float(support[np.searchsorted(below, level)])",
             new="return float(np.interp(level, below, support))"),
        Line("next_atom", module="risk", room="scaled", old="(below < level).sum()", new="(below < level + 0.2).sum()"),
        Line("jumps_allowed", module="risk", old="SAME = 1e-9", new="SAME = -1.0"),
    ],
)  # fmt: skip
def gradient_is_a_score_function(probe: Probe, room: Room) -> Margin:
    r, p, scale = probe.reward, probe.p, EXACT * 30 * (1 + np.abs(probe.reward).max())  # weights up to (1 + w) / alpha
    a, b = (float(room.parts.law_quantile(r, p, level)) for level in (ALPHA, BETA))
    margins = [_refuses_jumps(probe, room)]
    columns = probe.columns()
    for measure in MEASURES:
        exact = _slope(r, p[:, None, None] * probe.lm.scores(probe.theta), p, measure)
        for natural in (True, False) if measure == "mvar" else (True,):
            columns["advantages"] = _weights(room, r, a, b, measure, natural)
            found = -probe.in_logits(columns["rows"], pull(room, "reinforce", columns, p[:, None] * columns["mask"])[1])
            margins.append(Margin.equal(found, exact, scale))
    if probe.worked:
        direction, h = np.cos(np.arange(probe.theta.size)).reshape(probe.theta.shape), 1e-5
        ahead, behind = (with_theta(probe, probe.theta + s * h * direction).p for s in (1, -1))
        for measure, value in (
            ("rvar", -0.3805777029),
            ("cvar", -1.2159064827),
            ("mean", -0.2950534999),
            ("mvar", -0.8362998631),
        ):
            margins.append(Margin.equal(_value(r, p, measure), value, 0.5e-10))
            slope = (_value(r, ahead, measure) - _value(r, behind, measure)) / (2 * h)
            columns["advantages"] = _weights(room, r, a, b, measure, True)
            found = -probe.in_logits(columns["rows"], pull(room, "reinforce", columns, p[:, None] * columns["mask"])[1])
            # third derivatives below 10 times h^2, rounding of a sum of size 1 over h
            margins.append(Margin.equal((found * direction).sum(), slope, 1e-9))
        margins += [Margin.equal(found[0, 1], 0.2390776986, 0.5e-10), Margin.equal([a, b], [-1.0, 0.5], 0.0)]
    return Margin.worst(margins)


def _weights(room: Room, r: np.ndarray, a: float, b: float, measure: str, natural: bool = True) -> np.ndarray:
    settings = {"alpha": ALPHA, "beta": BETA, "w": W, "w_mix": W_MIX}
    return room.parts.weight(r, a, b, measure=measure, natural=natural, **settings)


def _refuses_jumps(probe: Probe, room: Room) -> Margin:
    atoms = np.unique(probe.reward)
    if len(atoms) == 1:
        return Margin.proved(True)
    level = float(probe.p[probe.reward <= atoms[0]].sum())
    if not 1e-6 < level < 1 - 1e-6:
        return Margin.proved(True)
    try:
        room.parts.law_quantile(probe.reward, probe.p, level)
    except SettingError as error:
        return Margin.proved("is on a jump" in str(error))
    return Margin.proved(False)


def _mix(integral: Any, measure: str) -> Any:
    """A measure from the integrals of the quantile function over (lower, upper)."""
    lower, middle, upper = integral(0.0, ALPHA), integral(ALPHA, BETA), integral(BETA, 1.0)
    return {
        "mean": lower + middle + upper, "rvar": middle / (BETA - ALPHA), "cvar": lower / ALPHA,
        "mvar": (1 + W) * lower + middle,
        "mvar_released": (W_MIX * lower / ALPHA + middle / (BETA - ALPHA)) / (1 + W_MIX),
        "seeking": (W_MIX * upper / (1 - BETA) + middle / (BETA - ALPHA)) / (1 + W_MIX),
    }[measure]  # fmt: skip


def _value(r: np.ndarray, p: np.ndarray, measure: str) -> float:
    """A measure as the integral of the quantile function, atom by atom."""
    order = np.argsort(r, kind="stable")
    above = np.cumsum(p[order])
    below = np.append(0.0, above[:-1])

    def integral(low: float, high: float) -> float:
        return float(r[order] @ np.clip(np.minimum(above, high) - np.maximum(below, low), 0.0, None))

    return _mix(integral, measure)


def _slope(r: np.ndarray, dp: np.ndarray, p: np.ndarray, measure: str) -> np.ndarray:
    """Its derivative, by parts: minus the sum of ``(x_{k+1} - x_k) grad F(x_k)`` over the F(x_k) between the levels."""
    atoms = np.unique(r)

    def integral(low: float, high: float) -> np.ndarray:
        out = np.zeros(dp.shape[1:])
        for x, following in pairwise(atoms):
            at = r <= x
            if low < p[at].sum() < high:
                out -= (following - x) * dp[at].sum(axis=0)
        return out

    return _mix(integral, measure)


@claim(
    method="riskpo", source="ren2025, sec. 4: special cases", level=Level.PROPERTY,
    statement="levels 0 and 1 give R less its largest value; level 0 below gives CVaR at beta; w = 0 gives (beta - alpha) RVaR "
    "+ alpha CVaR; the mean is R",
    worked=lambda: [toy("ones")], generated=probes,
    breaks=[
        NO_SATURATION, SWAPPED, TAIL_UP, TAIL_COUNTED_ONCE,
        Line("cvar_not_normalised", module="risk", old="return tail(z, a, positive) / alpha\n",
             new="return tail(z, a, positive)\n"),
        Line("rvar_not_normalised", module="risk", old="return g / (beta - alpha)\n", new="return g\n"),
    ],
)  # fmt: skip
def limits_of_the_measures(probe: Probe, room: Room) -> Margin:
    r, p, weight, scale = probe.reward, probe.p, room.parts.weight, EXACT * (1 + np.abs(probe.reward).max())
    low, high = (float(room.parts.law_quantile(r, p, level)) for level in (0.0, 1.0))
    a, b = (float(room.parts.law_quantile(r, p, level)) for level in (ALPHA, BETA))
    seen = p > 0
    rvar, cvar, mixed = (weight(r, a, b, measure=m, alpha=ALPHA, beta=BETA, w=0.0) for m in ("rvar", "cvar", "mvar"))
    lower = weight(r, low, b, measure="rvar", alpha=0.0, beta=BETA)
    return Margin.worst([
        Margin.equal(weight(r, low, high, measure="rvar", alpha=0.0, beta=1.0)[seen], (r - r[seen].max())[seen], scale),
        Margin.equal(lower[seen], weight(r, b, b, measure="cvar", alpha=BETA, beta=1.0)[seen], scale),
        Margin.equal(mixed, (BETA - ALPHA) * rvar + ALPHA * cvar, scale),
        Margin.equal(weight(r, a, b, measure="mean"), r, 0.0),
        Margin.equal(cvar, -np.maximum(a - r, 0.0) / ALPHA, scale * 10),
    ])  # fmt: skip


@claim(
    method="riskpo", source="ren2025, Proposition 1", level=Level.PROPERTY,
    statement="the entropy of a softmax whose logits move by eta A changes by -Cov(log pi, A) eta. The order of the paper's "
    "Theorem 2 is conditional: in the worked instance Cov is -0.124300 for the mean and -0.071689, larger, for MVaR",
    worked=lambda: [toy("ones")], generated=probes,
    breaks=[
        Wrap("sign", part="entropy_slope", by=lambda f: lambda p, a: -f(p, a)),
        Line("not_centred", module="risk", old="centred = advantage - p @ advantage", new="centred = advantage"),
        Line("mean_of_all_alike", module="risk", old="centred = advantage - p @ advantage",
             new="centred = advantage - advantage.mean()"),
    ],
)  # fmt: skip
def entropy_falls_by_a_covariance(probe: Probe, room: Room) -> Margin:
    r, p = probe.reward, probe.p
    a, b = (float(room.parts.law_quantile(r, p, level)) for level in (ALPHA, BETA))
    mvar = _weights(room, r, a, b, "mvar")
    mean_slope, mvar_slope = (float(room.parts.entropy_slope(p, x)) for x in (r, mvar))
    h, margins = 1e-5, []
    for advantage, found in ((r, mean_slope), (mvar, mvar_slope)):
        size = 1 + np.abs(advantage).max()
        ahead, behind = (_entropy(np.log(p) + s * h / size * advantage) for s in (1, -1))
        # advantages scaled to size 1: third derivatives below 10^2 log N times h^2, rounding of log N over h
        margins.append(Margin.equal(found / size, (ahead - behind) / (2 * h), 1e-9))
    if probe.worked:
        margins.append(Margin.equal([mean_slope, mvar_slope], [0.124300, 0.071689], 0.5e-6))
    return Margin.worst(margins)


def _entropy(logits: np.ndarray) -> float:
    weights = np.exp(logits - logits.max())
    p = weights / weights.sum()
    return -float(p @ np.log(p))


def _score_lists() -> Any:
    st = require("hypothesis.strategies", "conform")
    return st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.sampled_from([1.0, 2.0]))


@claim(
    method="riskpo", source="RTkenny/RiskPO, ray_trainer.py; robbins1951", level=Level.PROPERTY,
    statement="a tracked quantile reaches [x - lr (1 - s), x + lr s] around the atom x with P(R < x) < s < P(R <= x) and "
    "stays; between two atoms it rests; from (0, 0) on scores 1, 0, 2, 1 it goes (.02, .08), (.015, .135), (.01, .19)",
    worked=lambda: [([1, 0, 2, 1], 0.1)], generated=_score_lists,
    breaks=[
        Line("at_most", module="risk", old="(scores[None, :] < q[:, None])", new="(scores[None, :] <= q[:, None])"),
        Line("downhill", module="risk", old="q + lr_q * (levels", new="q - lr_q * (levels"),
        Line("step_size_forgotten", module="risk", old="q + lr_q * (levels", new="q + (levels"),
        Line("upper_quantiles", module="risk", old="return q + lr_q * (", new="return q + lr_q * (1 - 2 * levels + "),
    ],
)  # fmt: skip
def tracked_quantiles_settle(instance: tuple[list[int], float], room: Room) -> Margin:
    scores, lr = np.array(instance[0], dtype=float), instance[1]
    levels, margins = np.arange(1, 20) / 20, []
    if instance[0] == [1, 0, 2, 1]:
        q = np.zeros(2)
        for expected in ((0.02, 0.08), (0.015, 0.135), (0.01, 0.19)):
            q = room.parts.track(q, scores, levels=np.array([0.2, 0.8]), lr_q=lr)
            margins.append(Margin.equal(q, expected, EXACT))
    atoms = np.unique(scores)
    upto = np.array([(scores <= x).mean() for x in atoms])
    at = np.searchsorted(upto, levels - 1e-9)
    x, above, below = atoms[at], upto[at] - levels, levels - np.append(0.0, upto)[at]
    resting = np.abs(above) < 1e-9
    # levels of a flat piece of F: any point between the two atoms stays where it is
    middle = np.where(resting, x + np.append(np.diff(atoms), 1.0)[at] / 2, x)
    moved = room.parts.track(middle, scores, lr_q=lr) - middle
    margins.append(Margin.equal(moved[resting], np.zeros(resting.sum()), 0.0))
    start = np.linspace(-1.0, 4.0, 19)
    pull_ = lr * np.minimum(above, below)[~resting]
    steps = ceil(float(np.max(np.abs(start - x)[~resting] / pull_, initial=0.0))) + 1
    q = start
    for i in range(steps + 5):
        q = room.parts.track(q, scores, lr_q=lr)
        if i >= steps:
            off = np.maximum((x - lr * (1 - levels)) - q, q - (x + lr * levels))[~resting]
            margins.append(Margin.at_most(off, np.zeros_like(off), EXACT * steps))
    return Margin.worst(margins)
