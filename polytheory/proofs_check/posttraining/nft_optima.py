"""Claims of NFT: what the population loss is minimal at, for whole answers and for tokens; soft verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from polytheory.errors import require
from polytheory.proofs_check.claims import Level, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, probes, pull, toy, with_theta

SMALL = 1e-8  # probability of wrong answers under a law that stands in for pi+; its log ratios stay inside the clamp
TINY = 1e-9  # an eps below which no argument of the logarithm falls here


def with_settings(**fixed: Any) -> Any:
    """A break of the loss part: it always has these settings."""
    return lambda f: lambda columns, **settings: f(columns, **{**settings, **fixed})


NO_NEGATIVES = Wrap("no_negatives", part="nft", by=with_settings(negatives="none"))
CONTRAST = Wrap("naive_contrast", part="nft", by=with_settings(negatives="contrast"))
HALF_RATE = Wrap("half_the_success_rate", part="negative_ratio", by=lambda f: lambda ratio, r_hat: f(ratio, r_hat / 2))
UNDIVIDED = Wrap("not_divided", part="negative_ratio", by=lambda f: lambda ratio, r_hat: f(ratio, r_hat) * (1 - r_hat))


def mixed_probes(**sizes: Any) -> Any:
    """Probes with binary scores whose old policy succeeds with a probability clear of 0 and 1."""
    return probes(binary=True, **sizes).filter(lambda p: 0.02 < success(p) < 0.98)


def soft_probes() -> Any:
    """Probes with scores in (0, 1)."""
    st = require("hypothesis.strategies", "conform")
    seeds = st.integers(0, 10**6)
    return st.builds(
        lambda p, seed: replace(p, reward=np.random.default_rng(seed).uniform(0.05, 0.95, p.lm.N)), probes(), seeds
    )


def success(probe: Probe) -> float:
    """``r_q``, the success rate of the old policy."""
    return float(probe.lm.probs(probe.old) @ probe.reward)


def whole_answers(
    probe: Probe, room: Room, theta: np.ndarray, eps: float, verdict: np.ndarray | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Population loss of whole answers at ``theta``, its terms [N], and its gradient in the logits."""
    lm, old = probe.lm, probe.lm.log_probs(probe.old)
    columns = {
        "mask": np.ones((lm.N, 1), dtype=bool), "verdict": probe.reward if verdict is None else verdict,
        "r_hat": np.full(lm.N, success(probe)), "log_probs": lm.log_probs(theta)[:, None], "log_probs_old": old[:, None],
    }  # fmt: skip
    terms, slope = pull(room, "nft", columns, np.exp(old)[:, None], weight="one", eps=eps)
    return float(np.exp(old) @ terms[:, 0]), terms[:, 0], np.tensordot(slope[:, 0], lm.scores(theta), axes=1)


def nearly_right(probe: Probe) -> np.ndarray:
    """Logits of ``pi+`` with `SMALL` probability left for ``pi-``."""
    old, r = probe.lm.probs(probe.old), success(probe)
    law = (1 - SMALL) * old * probe.reward / r + SMALL * old * (1 - probe.reward) / (1 - r)
    return probe.lm.logits_of(law)


@claim(
    method="nft", source="chen2025, eq. 7 and Theorem 3.1", level=Level.PROPERTY,
    statement="for whole answers, r_q pi+ + (1 - r_q) pi- = pi_old, the loss of no policy is below r log r + (1 - r) log(1 "
    "- r) for any eps <= 1, and pi+, the old policy given a right answer, attains it with gradient 0 "
    "(-0.6639236167 on the worked instance)",
    worked=lambda: [toy()], generated=lambda: mixed_probes(max_length=2), breaks=[NO_NEGATIVES, CONTRAST, HALF_RATE, UNDIVIDED],
)  # fmt: skip
def whole_answers_lead_to_the_right_ones(probe: Probe, room: Room) -> Margin:
    r, lm = success(probe), probe.lm
    best = r * np.log(r) + (1 - r) * np.log(1 - r)
    # with probability SMALL on wrong answers, R of right ones is 1 - SMALL of its value: 2 r SMALL in the loss; entries of
    # scores are at most 1, so the gradient moves by at most 2 r SMALL too; second order is below the third one
    slack, margins = 3 * SMALL, []
    for eps in (1.0, TINY):
        value, _, gradient = whole_answers(probe, room, nearly_right(probe), eps)
        margins += [Margin.equal(value, best, slack), Margin.equal(gradient, 0 * gradient, slack)]
        for theta in (probe.theta, probe.ref * 3):
            value = whole_answers(probe, room, theta, eps)[0]
            margins.append(Margin.at_most(best, value, EXACT * (1 + abs(value))))
    wrong = room.parts.negative_ratio(probe.reward / r, np.full(lm.N, r))
    margins.append(Margin.equal(wrong, (1 - probe.reward) / (1 - r), EXACT / (1 - r)))
    if probe.worked:
        margins.append(Margin.equal([r, best], [0.3797133368, -0.6639236167], 0.5e-10))
    return Margin.worst(margins)


def _rounded(f: Any) -> Any:
    return lambda verdict, good, bad: f((verdict > 0.5) * 1.0, good, bad)


@claim(
    method="nft", source="chen2025, eq. 7 with r a probability", level=Level.PROPERTY,
    statement="the loss of a soft verdict r is r times that of a right and 1 - r times that of a wrong answer, and the "
    "population loss of whole answers is stationary at pi = pi_old r / r_q when all verdicts are inside of (0, 1) "
    "(not when some are 1)",
    worked=lambda: [replace(toy(), reward=0.1 + 0.05 * np.arange(15.0))], generated=soft_probes,
    breaks=[Wrap("verdict_rounded", part="branch_sum", by=_rounded), NO_NEGATIVES, CONTRAST],
)  # fmt: skip
def soft_verdicts_mix_the_branches(probe: Probe, room: Room) -> Margin:
    v, margins = probe.reward, []
    for eps in (1.0, 0.1):
        soft, right, wrong = (
            whole_answers(probe, room, probe.theta, eps, verdict)[1] for verdict in (v, 0 * v + 1, 0 * v)
        )
        margins.append(Margin.equal(soft, v * right + (1 - v) * wrong, EXACT * (1 + np.abs(right).max())))
    gradient = _at_reweighted(probe, room)
    # 1 - r R = 1 - v is at least 0.05: slopes of size 20
    margins.append(Margin.equal(gradient, 0 * gradient, 20 * EXACT))
    if probe.worked:
        one_sure = _at_reweighted(replace(probe, reward=np.append(v[:-1], 1.0)), room)
        margins.append(Margin(float(np.abs(one_sure).max() - 1e-3), 0.0))
    return Margin.worst(margins)


def _at_reweighted(probe: Probe, room: Room) -> np.ndarray:
    """Gradient of the population loss of whole answers at ``pi_old r / r_q``."""
    law = probe.lm.probs(probe.old) * probe.reward / success(probe)
    return whole_answers(probe, room, probe.lm.logits_of(law), TINY)[2]


def by_tokens(probe: Probe, room: Room, theta: np.ndarray) -> np.ndarray:
    """Gradient [C, V] of the population loss of tokens at ``theta``, data from the old policy."""
    here, lm = with_theta(probe, theta), probe.lm
    columns = {**here.columns(on_policy=False), "verdict": probe.reward, "r_hat": np.full(lm.N, success(probe))}
    chance = lm.probs(probe.old)[:, None] * lm.mask
    slope = pull(room, "nft", columns, chance, weight="one", eps=TINY)[1]
    return here.in_logits(columns["rows"], slope)


def values_of(probe: Probe) -> tuple[np.ndarray, np.ndarray]:
    """Token probabilities and success rates ``V(s, a)`` of the old policy, [C, V] each."""
    lm, p = probe.lm, probe.lm.probs(probe.old)
    mass, good = np.zeros((2, lm.C, lm.V))
    i, t = np.nonzero(lm.mask)
    np.add.at(mass, (lm.context[i, t], lm.tokens[i, t]), p[i])
    np.add.at(good, (lm.context[i, t], lm.tokens[i, t]), (p * probe.reward)[i])
    return mass / mass.sum(axis=1, keepdims=True), good / mass


def best_ratios(old: np.ndarray, value: np.ndarray, r: float) -> np.ndarray:
    """The R [V] that maximises ``sum old [V log R + (1 - V) log(1 - r R)]`` subject to ``sum old R = 1``, by bisection in
    the multiplier: ``V / R - (1 - V) r / (1 - r R) = lam``."""
    certain = value > 1 - 1e-12  # log R alone: no cap on R

    def ratios(lam: float) -> np.ndarray:
        half = np.sqrt(np.maximum((r + lam) ** 2 - 4 * lam * r * value, 0.0))  # certain ones may round below 0
        inner = 2 * value / (r + lam + half) if lam > -r else (r + lam - half) / (2 * lam * r)
        return np.where(certain, 1 / max(lam, 1e-300), inner)

    # a ratio is <= 1 somewhere and >= 1 somewhere, which bounds the multiplier on both sides
    low, high = (0.0 if certain.any() else -2 / (1 - r)), 2.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if old @ ratios(middle) > 1 else (low, middle)
    return ratios(high)


@claim(
    method="nft", source="chen2025, eq. 10 (tokens) against Theorem 3.1 (answers)", level=Level.PROPERTY,
    statement="the loss of tokens is stationary where V(s, a) / R - (1 - V(s, a)) r / (1 - r R) is the same for all tokens "
    "of a prefix: this is pi+ at the first token, whose success rate is r_q, unless some first tokens are sure to "
    "be right and others are open, but not elsewhere (worked: after token 1 the ratios are 1.1151032, 0.6254874, "
    "1.7149615 and not 1.1453108, 0.7397106, 1.4346441)",
    worked=lambda: [toy()], generated=lambda: mixed_probes(max_length=2),
    breaks=[
        NO_NEGATIVES, CONTRAST, HALF_RATE,
        Wrap("always_on_policy", part="bounded_exp", room="reference",
             by=lambda f: lambda gap: tuple(x * 0 + 1 for x in f(gap))),
        Wrap("slope_without_ratio", part="bounded_exp", room="scaled", by=lambda f: lambda gap: 1 + gap - gap.detach()),
    ],
)  # fmt: skip
def tokens_do_not_lead_to_the_right_answers(probe: Probe, room: Room) -> Margin:
    r = success(probe)
    old, value = values_of(probe)
    best = np.array([best_ratios(*row, r) for row in zip(old, value, strict=True)])
    gradient = by_tokens(probe, room, np.log(old * np.maximum(best, SMALL)))
    # a token whose best ratio is 0 has SMALL instead: times multipliers of at most 1 / (1 - r)
    slack = 4 * SMALL / (1 - r)
    conditioned = by_tokens(probe, room, nearly_right(probe))
    margins = [Margin.equal(gradient, 0 * gradient, slack)]
    sure, open_ = value[0] > 1 - EXACT, (value[0] > EXACT) & (value[0] < 1 - EXACT)
    if not (sure.any() and open_.any()):  # a sure token has the slope r, where open ones are stationary
        margins.append(Margin.equal(conditioned[0], 0 * conditioned[0], slack))
    if probe.worked:
        after_one = probe.lm.contexts.index((1,))
        ratios = [value[0] / r, value[after_one] / (old[after_one] @ value[after_one]), best[after_one]]
        numbers = [
            [0.7174827, 1.8356926, 0.0], [1.1453108, 0.7397106, 1.4346441], [1.1151032, 0.6254874, 1.7149615]
        ]  # fmt: skip
        margins.append(Margin.equal(ratios, numbers, 0.5e-7))
        margins.append(Margin(float(np.abs(conditioned[after_one]).max() - 1e-3), 0.0))
    return Margin.worst(margins)
