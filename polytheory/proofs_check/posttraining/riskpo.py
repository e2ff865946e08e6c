"""Claims of RiskPO as a whole, and what `polytheory verify riskpo` solves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from polytheory.proofs_check.claims import Demo, Level, Line, Margin, Room, Setting, Wrap, claim
from polytheory.proofs_check.posttraining import bundle_claims as bundle_claims
from polytheory.proofs_check.posttraining import risk_claims as risk_claims
from polytheory.proofs_check.posttraining.bundle_claims import Batch, batches, worked_batch
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, Scripted, toy
from polytheory.proofs_check.posttraining.risk_claims import NO_SATURATION, TAIL_UP

LEVELS = np.arange(1, 20) / 20


@claim(
    method="riskpo", source="RTkenny/RiskPO, core_algos.py and ray_trainer.py", level=Level.PROPERTY,
    statement="a step weighs its scores by the quantiles from before it saw them (the first by its own), then moves them; "
    "weights are divided by the bundle's deviation, or by 1 where that vanishes. Worked: RVaR -2/3, -4/3, 0, -2/3, "
    "CVaR 0, -3, 0, 0, mixture -.2666667, -2.3333333, 0, -.2666667",
    worked=lambda: [worked_batch()], generated=batches,
    breaks=[
        NO_SATURATION, TAIL_UP,
        Wrap("sees_its_own_scores", part="risk_advantages", by=lambda f: lambda c, s, **k: f(c, f(c, s, **k)[1], **k)),
        Wrap("forgets", part="risk_advantages", by=lambda f: lambda c, s, **k: f(c, None, **k)),
        Wrap("never_moves", part="risk_advantages", by=lambda f: lambda c, s, **k: (f(c, s, **k)[0], s or f(c, s, **k)[1])),
        Wrap("track_for_batch", part="quantile", by=lambda f: lambda q, x, level, mode, how: f(q, x, level, "track", how)),
        Wrap("middle_order_statistic", part="sample_quantile", by=lambda f: lambda x, level, how: f(x, level, "inf")),
        Wrap("tracked_twice", part="track", by=lambda f: lambda q, x, lr_q: f(f(q, x, lr_q=lr_q), x, lr_q=lr_q)),
        Line("no_guard", module="riskpo", old="spread > least_deviation", new="spread > -1.0"),
    ],
)  # fmt: skip
def quantiles_of_a_step_are_older_than_it(batch: Batch, room: Room) -> Margin:
    columns = batch.formed(room)
    later = {**columns, "bundle_score": columns["bundle_score"][::-1] * 0.5 + 1.0}
    for k in np.unique(later["bundle_sample"]):  # one score for all rows of a sample
        rows = later["bundle_sample"] == k
        later["bundle_score"][rows] = later["bundle_score"][rows].max()
    margins, state = [], None
    for step, given in enumerate((columns, later, columns)):
        scores = given["bundle_score"][np.unique(given["bundle_sample"], return_index=True)[1]]
        used = np.quantile(scores, LEVELS) if state is None else state["quantiles"]
        scale = EXACT * 1e4 * (1 + np.abs(scores).max())  # deviations of at least 1e-3, weights of at most 1 / alpha
        after: dict[str, Any] = {}
        for mode in ("batch", "mix", "track"):
            settings: dict[str, Any] = {"measure": "mvar_released", "natural": True, "quantiles": mode}
            written, after = room.parts.risk_advantages(given, state, **settings)
            margins.append(Margin.equal(written["bundle_advantages"], _by_hand(given, used, mode), scale))
        below = np.array([(scores < x).mean() for x in used])
        moved = used if step == 0 else used + 0.1 * (LEVELS - below)
        margins.append(Margin.equal(after["quantiles"], moved, EXACT * (1 + np.abs(scores).max())))
        state = after
    if batch.worked:
        for measure, expected in (
            ("rvar", [-2 / 3, -4 / 3, 0.0, -2 / 3]),
            ("cvar", [0.0, -3.0, 0.0, 0.0]),
            ("mvar_released", [-4 / 15, -7 / 3, 0.0, -4 / 15]),
        ):
            settings = {"measure": measure, "natural": True, "standardise": False, "quantiles": "batch"}
            written, _ = room.parts.risk_advantages(columns, None, **settings)
            margins.append(Margin.equal(written["bundle_advantages"], expected * 2, EXACT))
    return Margin.worst(margins)


def _by_hand(columns: dict[str, Any], q: np.ndarray, mode: str) -> np.ndarray:
    """Standardised weights of the released mixture at (0.2, 0.8): g is how far a clipped score is below the upper end."""
    out, sample = np.zeros(len(columns["bundle"])), columns["bundle_sample"]
    for name in np.unique(columns["bundle"]):
        rows = np.flatnonzero(columns["bundle"] == name)
        scores = columns["bundle_score"][rows][np.unique(sample[rows], return_index=True)[1]]
        own, kept = np.quantile(scores, [0.2, 0.8]), np.sort(q)[[3, 15]]
        a, b = {"batch": own, "track": kept, "mix": (own + kept) / 2}[mode]
        z = columns["bundle_score"][rows]
        mixed = (1.5 * np.minimum(z - a, 0.0) / 0.2 + (np.clip(z, a, b) - b) / 0.6) / 2.5
        spread = np.std(scores, ddof=1)
        out[rows] = mixed / (spread + 1e-6 if spread > 1e-3 else 1.0)
    return out


@claim(
    method="riskpo", source="ren2025, Algorithm 1 and eq. of the loss", level=Level.PROPERTY,
    statement="three steps on two prompts with scores 1, 0, 1, 0 and 0, 0, 1, 1 move the parameters by step_size / 8 "
    "sum A grad log pi / |y| with A = (-4/15, -7/3, 0, -4/15) twice and, with the quantiles moved to .595 and 1.405, "
    "(-.27, -2.325, 0, -.27)",
    worked=lambda: [toy()],
    breaks=[
        Setting("quantiles_of_the_batch", quantiles="batch"),
        Setting("standardised", standardise=True),
        Setting("random_order", shuffle=True),
        Setting("centred", baseline="bundle"),
        Setting("shared_by_score", credit="score"),
        Setting("other_levels", beta=0.9),
        Setting("constant_dropped", natural=False),
        Setting("means_over_tokens", surrogate="ppo_clip", normalisation="seq_sum"),
        Wrap("uphill", part="Composition.gradient", by=lambda f: lambda *a: tuple(-x for x in f(*a))),
    ],
)  # fmt: skip
def worked_steps(probe: Probe, room: Room) -> Margin:
    one, zero = (np.flatnonzero(probe.reward == x).tolist() for x in (1.0, 0.0))
    rows = [one[0], zero[0], one[1], zero[1], zero[2], zero[3], one[2], one[3]]
    weights = [[-4 / 15, -7 / 3, 0.0, -4 / 15]] * 2 + [[-0.27, -2.325, 0.0, -0.27]]
    theta, step_size, margins = probe.theta, 0.5, []
    for found, a in zip(_scripted_run(probe, room, rows, 3, step_size), weights, strict=True):
        scores = np.stack([probe.lm.scores(theta)[i] / probe.lm.lengths[i] for i in rows])
        theta = theta + step_size / 8 * np.tensordot(np.tile(a, 2), scores, axes=1)
        margins.append(Margin.equal(found, theta, EXACT))
    return Margin.worst(margins)


def _scripted_run(probe: Probe, room: Room, rows: list[int], steps: int, step_size: float) -> list[np.ndarray]:
    """Logits after each step of a run whose completions are always ``rows``: two prompts of four."""
    start = np.vstack([probe.theta, np.zeros(probe.lm.V)]).ravel()  # the end state has logits too
    made = room.make(
        "RiskPo", policy=room.part("TabularSoftmax")(room.inward(room.batch(start)), probe.lm.C + 1, probe.lm.V),
        prompts=2, bundle_size=2, group_size=4, step_size=step_size, measure="mvar_released", natural=True, shuffle=False,
        standardise=False, credit="uniform",
    )  # fmt: skip
    script: Any = Scripted(probe, [rows])
    if room.name == "scaled":
        inner = script
        script = SimpleNamespace(spec=inner.spec, replicas=1, rollouts=lambda *a: room.inward(inner.rollouts(*a)))
    state, found = made.init(script, 0), []
    for _ in range(steps):
        state, _ = made.step(state, script)
        found.append(np.asarray(state.theta).reshape(probe.lm.C + 1, probe.lm.V)[:-1].copy())
    return found


def _softmax(**settings: Any) -> Any:
    def build(room: Any, model: Any) -> dict[str, Any]:
        return {"policy": room.part("TabularSoftmax").zeros(model.S, model.A), **settings}

    return build


DEMOS = (
    Demo(
        "token-mdp", "RiskPo", _softmax(prompts=10, group_size=6, step_size=1.0), steps=40,
        options={"reward": "ones-minus-half-length"}, lockstep_steps=12,
    ),
    Demo(
        "token-mdp", "RiskPo",
        _softmax(prompts=5, group_size=5, step_size=1.0, beta=0.9, credit="std", natural=True), steps=40, lockstep_steps=12,
    ),
    Demo(
        "token-mdp", "RiskPo",
        _softmax(
            prompts=6, bundle_size=3, group_size=4, step_size=1.0, measure="mvar_released", surrogate="ppo_clip", updates=2,
            normalisation="token_mean", shuffle=False, quantiles="mix", baseline="tracked",
        ),
        steps=25, lockstep_steps=12,
    ),
)  # fmt: skip
