"""Claims of GRPO: what the estimates of the KL estimate, as values and as gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory.proofs_check.claims import Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, probes, pull, row_weights, toy

ESTIMATES = ("kl_k1", "kl_k2", "kl_k3", "kl_rho_k3")
UPSIDE_DOWN = Wrap("pi_and_ref_swapped", part="_gap", by=lambda f: lambda columns: _negated(f(columns)))


def _negated(x: Any) -> Any:
    return (-x[0], x[1]) if isinstance(x, tuple) else -x


def _reverse(probe: Probe) -> np.ndarray:
    """``grad KL(pi || ref) = E_pi[d grad log pi]``."""
    d = probe.lm.log_probs(probe.theta) - probe.lm.log_probs(probe.ref)
    return np.tensordot(probe.p * d, probe.lm.scores(probe.theta), axes=1)


def _forward(probe: Probe) -> np.ndarray:
    """``grad KL(ref || pi) = -E_ref[grad log pi]``."""
    return -np.tensordot(probe.lm.probs(probe.ref), probe.lm.scores(probe.theta), axes=1)


def _size(probe: Probe) -> float:
    """Rounding of sums of exp(-d), d up to its largest value here."""
    gap = np.abs(probe.lm.log_probs(probe.theta) - probe.lm.log_probs(probe.ref))
    return EXACT * float(1 + np.exp(gap.max()) + gap.max() ** 2)


@claim(
    method="grpo", source="schulman2020; shao2024, eq. 4", level=Level.PROPERTY,
    statement="k1, k3 and rho k3 have mean KL(pi || ref) = 0.1193607584, k2 another (0.1417343110); the mean gradients are 0, "
    "grad KL(pi || ref), grad KL(ref || pi) and grad KL(pi || ref) for k1, k2, k3 and rho k3",
    worked=lambda: [toy()], generated=lambda: probes(max_length=2),
    breaks=[
        UPSIDE_DOWN,
        Wrap("k2_without_half", part="k2", by=lambda f: lambda d: 2 * f(d)),
        Wrap("k3_upside_down", part="k3", by=lambda f: lambda d, exp: f(-d, exp)),
        Wrap("ratio_forgotten", part="kl_rho_k3", by=lambda f: lambda columns: f.__globals__["kl_k3"](columns)),
        Wrap("k2_for_k1", part="kl_k1", by=lambda f: lambda columns: f.__globals__["kl_k2"](columns)),
        Line("ratio_held_fixed", module="kl", room="scaled", old='return token_ratio(columns, "log_probs_old") * k3',
             new='return token_ratio(columns, "log_probs_old").detach() * k3'),
        Line("gradient_of_k3_only", module="kl", room="reference", old="np.where(moves, k3(d, np.expm1), 0.0) +", new="0.0 +"),
    ],
)  # fmt: skip
def estimates_of_the_kl(probe: Probe, room: Room) -> Margin:
    # whole sequences as single tokens: then there are no later states to be affected
    columns, p = probe.as_one_token(), probe.p[:, None]
    pulled = {name: pull(room, name, columns, p) for name in ESTIMATES}
    means = {name: float((p * value).sum()) for name, (value, _) in pulled.items()}
    scores = probe.lm.scores(probe.theta)
    gradients = {name: np.tensordot(slope[:, 0], scores, axes=1) for name, (_, slope) in pulled.items()}
    kl, reverse, forward = probe.lm.kl(probe.theta, probe.ref), _reverse(probe), _forward(probe)
    expected = {"kl_k1": 0 * reverse, "kl_k2": reverse, "kl_k3": forward, "kl_rho_k3": reverse}
    margins = [Margin.equal(gradients[name], expected[name], _size(probe)) for name in ESTIMATES]
    margins += [Margin.equal(means[name], kl, _size(probe)) for name in ("kl_k1", "kl_k3", "kl_rho_k3")]
    if probe.worked:
        found = [means["kl_k3"], means["kl_k2"], *(np.linalg.norm(gradients[k]) for k in ("kl_k2", "kl_k3"))]
        found.append(np.linalg.norm(gradients["kl_k2"] - gradients["kl_k3"]))
        numbers = [0.1193607584, 0.1417343110, 0.1894726219, 0.1562619907, 0.0590925218]
        margins.append(Margin.equal(found, numbers, 0.5e-10))
    return Margin.worst(margins)


@claim(
    method="grpo", source="ziegler2019, eq. 2; policy gradient theorem", level=Level.PROPERTY,
    statement="k1 in the reward to go gives grad KL(pi || ref) of whole sequences exactly, as does k1 in the score; k2 summed "
    "over tokens holds the visited prefixes fixed and misses it by 0.0452764600 on the worked instance",
    worked=lambda: [toy()], generated=lambda: probes(max_length=3),
    breaks=[
        Wrap("k1_so_far", part="kl_in_reward", by=lambda f: lambda c, **s: f(_backwards(c), **s)),
        Wrap("own_token_only", part="_sampled_gap", by=lambda f: lambda c, beta: _first_only(f(c, beta))),
        Wrap("bonus_not_penalty", part="_sampled_gap", by=lambda f: lambda c, beta: -f(c, beta)),
    ],
)  # fmt: skip
def reward_to_go_has_the_whole_gradient(probe: Probe, room: Room) -> Margin:
    beta, columns = 0.7, probe.columns()
    given = {k: columns[k] for k in ("mask", "score", "log_probs_old", "log_probs_ref")}
    w = row_weights(room, columns["mask"], probe.p, "seq_sum")
    target = probe.gradient - beta * _reverse(probe)
    a = room.parts.kl_in_reward({**given, "advantages": probe.reward}, beta=beta)["advantages"]
    in_score = room.parts.kl_in_score(given, beta=beta)["score"]
    margins = []
    for advantages in (a, in_score):
        slope = pull(room, "reinforce", {**columns, "advantages": advantages}, w)[1]
        margins.append(Margin.equal(-probe.in_logits(columns["rows"], slope), target, _size(probe)))
    if probe.worked:
        by_token = probe.in_logits(columns["rows"], pull(room, "kl_k2", columns, w)[1])
        margins.append(Margin.equal(np.linalg.norm(by_token - _reverse(probe)), 0.0452764600, 0.5e-10))
    return Margin.worst(margins)


def _backwards(columns: dict) -> dict:
    """Log-probs in reverse order of tokens, so that sums to go are sums so far."""
    turned = {}
    for name in ("log_probs_old", "log_probs_ref"):
        x = columns[name]
        turned[name] = x[:, ::-1] if isinstance(x, np.ndarray) else x.flip(1)
    return {**columns, **turned, "mask": columns["mask"] | True}


def _first_only(gap: Any) -> Any:
    """Only the first token's term: nothing to come, for it or the others."""
    kept = 0 * gap
    kept[:, 0] = gap[:, 0]
    return kept
