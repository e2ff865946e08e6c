"""Claims of GRPO: corrections of the sampler, pairs, and what DAPO does to scores and groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory.proofs_check.claims import Level, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, probes, pull, row_weights, toy, with_theta

HUGE = 1e9  # a cap that no weight reaches


@claim(
    method="grpo", source="yao2025; ling2025; importance sampling", level=Level.PROPERTY,
    statement="uncapped sequence weights make the sampler's mean the trainer's (0.3584990685) and its mean direction grad J; "
    "capping at 1.2 gives 0.3335584404, masking 0.1558035528, no correction 0.3797133368, and token weights another direction",
    worked=lambda: [toy()], generated=lambda: probes(max_length=3),
    breaks=[
        Wrap("upside_down", part="mismatch", by=lambda f: lambda columns, unit: 1 / f(columns, unit)),
        Wrap("token_weights", part="mismatch", by=lambda f: lambda columns, unit: f(columns, "token")[:, 0]),
        Wrap("no_weights", part="mismatch", by=lambda f: lambda columns, unit: 0 * f(columns, unit) + 1),
        Wrap("not_used", part="over_tokens", by=lambda f: lambda x, mask: f(x, mask) * 0 + 1.0),
    ],
)  # fmt: skip
def sequence_weights_are_unbiased(probe: Probe, room: Room) -> Margin:
    # the sampler has the logits `old`, the trainer believes it sampled from `theta`
    columns, mu = probe.columns(), probe.lm.probs(probe.old)
    given = {k: columns[k] for k in ("mask", "log_probs_old", "log_probs_sampler")}
    a = probe.reward - probe.J

    def direction(unit: str) -> np.ndarray:
        w = room.parts.truncated_is(given, cap=HUGE, unit=unit)["sampler_weights"]
        weights = row_weights(room, columns["mask"], mu, "seq_sum")
        slope = pull(room, "reinforce", {**columns, "advantages": a, "sampler_weights": w}, weights)[1]
        return -probe.in_logits(columns["rows"], slope)

    margins = [Margin.equal(direction("sequence"), probe.gradient, EXACT * (1 + np.abs(probe.reward).max()))]
    if probe.worked:
        tis = room.parts.truncated_is(given, cap=1.2, unit="sequence")["sampler_weights"]
        mis = room.parts.masked_is(given, cap=1.2, unit="sequence")["sampler_weights"]
        free = room.parts.truncated_is(given, cap=HUGE, unit="sequence")["sampler_weights"]
        found = [mu @ (w * probe.reward) for w in (free, tis, mis, np.ones_like(free))]
        numbers = [0.3584990685, 0.3335584404, 0.1558035528, 0.3797133368]
        margins.append(Margin.equal(found, numbers, 0.5e-10))
        away = np.abs(direction("token") - probe.gradient).max()
        margins.append(Margin(float(away - 1e-3), 0.0))
    return Margin.worst(margins)


@claim(
    method="grpo", source="rafailov2023, sec. 4; azar2024, Theorem 1 and sec. 5", level=Level.PROPERTY,
    statement="over all pairs with Bradley-Terry preferences, the population gradient vanishes at ref exp(R / beta) for DPO "
    "and at ref exp(P(y > mu) / tau) for IPO, and the loss is higher beside it",
    worked=lambda: [toy("ones")], generated=lambda: probes(max_length=2),
    breaks=[
        Wrap("mean_over_tokens", part="token_log_ratio", by=lambda f: lambda c, to: _per_length(f(c, to), c["mask"])),
        Wrap("loser_first", part="pair_margin", by=lambda f: lambda columns: -f(columns)),
        Wrap("reference_forgotten", part="token_log_ratio",
             by=lambda f: lambda c, to: f({**c, to: 0 * c[to]}, to)),
        Wrap("strength_doubled", part="dpo", by=lambda f: lambda columns, beta: f(columns, beta=2 * beta)),
        Wrap("half_of_the_target", part="ipo", by=lambda f: lambda columns, tau: f(columns, tau=2 * tau)),
    ],
)  # fmt: skip
def population_optima_of_pairs(probe: Probe, room: Room) -> Margin:
    strength, lm, mu = 0.7, probe.lm, probe.lm.probs(probe.ref)
    beats = 1 / (1 + np.exp(probe.reward[None, :] - probe.reward[:, None]))
    pairs = np.array([(i, j) for i in range(lm.N) for j in range(lm.N)])
    chance = (mu[:, None] * mu[None, :] * 2 * beats).ravel()  # of drawing the two, and the first being preferred
    optima = {
        "dpo": lm.tilted(probe.ref, probe.reward, strength),
        "ipo": lm.tilted(probe.ref, beats @ mu, strength),
    }
    margins = []
    for part, law in optima.items():
        setting = {"beta" if part == "dpo" else "tau": strength}

        def at(theta: np.ndarray, part: str = part, setting: dict[str, float] = setting) -> tuple[float, np.ndarray]:
            here = with_theta(probe, theta)
            columns = {**here.columns(), "pairs": pairs}
            terms, slope = pull(room, part, columns, chance, **setting)
            return float(chance @ terms), here.in_logits(columns["rows"], slope)

        # logits of a law far from uniform carry the rounding of its smallest probability
        best, gradient = at(lm.logits_of(law))
        margins.append(Margin.equal(gradient, 0 * gradient, EXACT * 10))
        beside, _ = at(lm.logits_of(law) + 0.1 * np.cos(np.arange(probe.theta.size)).reshape(probe.theta.shape))
        margins.append(Margin.at_most(best, beside, EXACT * (1 + abs(best))))
        if probe.worked:
            margins.append(Margin.equal(law[:5], _FIRST_FIVE[part], 0.5e-10))
    return Margin.worst(margins)


_FIRST_FIVE = {
    "dpo": [0.1009082407, 0.0337507321, 0.1540012639, 0.0075103830, 0.0282678149],
    "ipo": [0.2038684443, 0.1189170996, 0.1788105856, 0.0469126309, 0.0571104541],
}


def _per_length(x: Any, mask: Any) -> Any:
    return x / mask.sum(1)[:, None]


@claim(
    method="grpo", source="yu2025, eq. 11 and 13", level=Level.PROPERTY,
    statement="lengths 16384, 18432, 20480, 24576 are penalised by 0, 1/2, 1, 1; dynamic sampling keeps only the rows of the "
    "first groups whose scores differ",
    breaks=[
        Wrap("unbounded_penalty", part="overlong_shaping", by=lambda f: lambda c, **s: _unbounded(c, **s)),
        Wrap("bonus", part="overlong_shaping", by=lambda f: lambda c, **s: _turned(c, f(c, **s))),
        Wrap("keeps_all", part="informative", by=lambda f: lambda c, prompts=None: c["score"] == c["score"]),
        Wrap("keeps_the_rest", part="informative", by=lambda f: lambda c, prompts=None: ~f(c, prompts)),
        Wrap("no_limit", part="informative", by=lambda f: lambda c, prompts=None: f(c)),
    ],
)  # fmt: skip
def shaping_and_filter(_: None, room: Room) -> Margin:
    lengths = np.array([16384, 18432, 20480, 24576])
    mask = np.arange(lengths.max()) < lengths[:, None]
    shaped = room.parts.overlong_shaping({"mask": mask, "score": np.ones(4)}, max_length=20480, buffer=4096)["score"]
    score = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0])
    group = np.array([4, 2, 2, 4, 1, 1, 6, 6, 0])
    kept = {}
    for prompts in (None, 1):
        given = {"score": score, "group": group, "mask": mask[:1].repeat(9, axis=0), "row": np.arange(9)}
        kept[prompts] = room.parts.dynamic_sampling(given, prompts=prompts)["row"]
    right = kept[None].tolist() == [4, 5, 6, 7] and kept[1].tolist() == [4, 5]
    return Margin.worst([Margin.equal(shaped, [1.0, 0.5, 0.0, 0.0], EXACT), Margin.proved(right)])


def _unbounded(columns: Any, max_length: int, buffer: int) -> Any:
    over = (columns["mask"].sum(1) - (max_length - buffer)) / buffer
    return {**columns, "score": columns["score"] - over * (over > 0)}


def _turned(before: Any, after: Any) -> Any:
    return {**after, "score": 2 * before["score"] - after["score"]}
