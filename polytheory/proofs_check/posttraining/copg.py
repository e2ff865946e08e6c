"""Claims of CoPG: where ascent on the exact population gradient ends, and what `polytheory verify copg` solves."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.models.tabular_lm import TabularLM
from polytheory.proofs_check.claims import Demo, Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining import copg_claims as copg_claims
from polytheory.proofs_check.posttraining.copg_claims import (
    BETA_FOR_HALF,
    BETA_TWICE,
    KL_ADDED,
    TIES_DROPPED,
    Case,
    cases,
    worked_case,
)
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, Scripted, pull

MU_1, MU_2 = np.array([0.1, 0.2, 0.7]), np.array([0.05, 0.05, 0.9])
STILL = 1e-12  # the largest slope at a fixed point; curvature there is at least 1e-3, so logits are right to 1e-9
FAR, MOST_STEPS = 30.0, 1000
QUOTED = 0.5e-10 + 1e-9  # the last digit quoted, and that


def bandit(shift: float = 0.0) -> Case:
    """The paper's bandit: three completions of one token, scores 2.5, 2, 1, beta = 0.5, a uniform reference."""
    lm = TabularLM(3, 1)
    flat = np.zeros((1, 3))
    probe = Probe(lm, flat, flat, flat, np.array([2.5, 2.0, 1.0]) + shift)
    return Case(probe, 0.5, np.multiply.outer(MU_1, MU_2), True)


def ascend(case: Case, slope: Any, step: float) -> Float[np.ndarray, " N"]:
    """Probabilities where descent along ``slope(case)`` comes to rest, or where it leaves for the corners."""
    for _ in range(MOST_STEPS):
        g = slope(case)
        if np.abs(g).max() < STILL or np.abs(case.probe.theta).max() > FAR:
            break
        case = replace(case, probe=replace(case.probe, theta=case.probe.theta - step * g))
    return case.probe.lm.probs(case.probe.theta)


@claim(
    method="copg", source="fletberliac2024, Theorem 1 and the bandit of sec. 5", level=Level.PROPERTY,
    statement="ascent on the exact population gradient of l ends at pi* = (.7053845127, .2594964603, .0351190270) in the "
    "paper's bandit, from these behaviour policies or these exchanged; E l is 0.5 there and 0 at the uniform policy",
    worked=lambda: [bandit()],
    breaks=[
        BETA_TWICE, KL_ADDED, BETA_FOR_HALF,
        Line("differentiated_with_beta", room="reference", old="slope = -factor * regularised(gain, margin, beta)",
             new="slope = -factor * regularised(gain, margin, 2 * beta)"),
    ],
)  # fmt: skip
def bandit_ends_at_the_optimum(case: Case, room: Room) -> Margin:
    star = [0.7053845127, 0.2594964603, 0.0351190270]
    margins = []
    for form, weight in (("square", case.weight), ("objective", case.weight.T)):
        at = replace(case, weight=weight)
        found = ascend(at, lambda x, form=form: x.pulled(room, beta=x.beta, form=form)[1], 3.0)
        margins.append(Margin.equal(found, star, QUOTED))
    l_star, l_uniform = (-x.pulled(room, beta=0.5, form="objective")[0] for x in (case.optimum, case))
    return Margin.worst([*margins, Margin.equal([l_star, l_uniform], [0.5, 0.0], EXACT)])


@claim(
    method="copg", source="fletberliac2024, sec. 5 (baselines off policy), and what they lack", level=Level.PROPERTY,
    statement="off policy, policy gradient with the baseline E_pi[R] ends at (.8115481836, .1675247522, .0209270642), with no "
    "baseline at (.1939902583, .2501385902, .5558711516), worse than it began; with E_pi[R_beta] it ends at pi*; IPO with "
    "Bradley-Terry labels ends at (.4241690589, .3527058337, .2231251075)",
    worked=lambda: [bandit()],
    breaks=[
        Wrap("kl_left_out", part="regularised", by=lambda f: lambda s, gap, beta: f(s, 0 * gap, beta)),
        Line("baseline_dropped", room="reference", old="regularised_scores(columns, beta=beta) - baseline",
             new="regularised_scores(columns, beta=beta)"),
        Line("baseline_dropped_in_torch", room="scaled", old="score - baseline.detach().to(score.dtype)", new="score"),
        Line("ipo_target", module="pairs", old="- 1 / (2 * tau)", new="- 1 / tau"),
    ],
)  # fmt: skip
def baselines_off_policy(case: Case, room: Room) -> Margin:
    mu = (MU_1 + MU_2) / 2
    ends = {
        "value": [0.8115481836, 0.1675247522, 0.0209270642], "none": [0.1939902583, 0.2501385902, 0.5558711516],
        "regularised": [0.7053845127, 0.2594964603, 0.0351190270],
    }  # fmt: skip
    regret = {"value": 0.0148174262, "none": 0.6377927006, "regularised": 0.0}
    best, margins = _objective(case.optimum), []

    def slope(case: Case, kind: str) -> Any:
        columns = case.columns()
        b = {"value": case.probe.J, "none": 0.0, "regularised": float(case.probe.p @ case.regularised)}[kind]
        columns["baseline"] = np.full(3, b)
        return case.probe.in_logits(columns["rows"], pull(room, "baseline_reinforce", columns, mu, beta=0.5)[1])

    for kind, end in ends.items():
        found = ascend(case, lambda x, kind=kind: slope(x, kind), 2.0)
        margins.append(Margin.equal(found, end, QUOTED))
        margins.append(Margin.equal(best - _objective(case, found), regret[kind], QUOTED))
    chosen = 1 / (1 + np.exp(-np.subtract.outer(case.probe.reward, case.probe.reward)))
    labelled = replace(case, weight=(case.weight + case.weight.T) * chosen)
    found = ascend(labelled, lambda x: x.pulled(room, "ipo", tau=0.5)[1], 0.5)
    margins.append(Margin.equal(found, [0.4241690589, 0.3527058337, 0.2231251075], QUOTED))
    margins.append(Margin.equal(best - _objective(case, found), 0.1525306603, QUOTED))
    return Margin.worst(margins)


def _objective(case: Case, p: Float[np.ndarray, " N"] | None = None) -> float:
    """``E_p[R] - beta KL(p || ref)``, by its definition."""
    p = case.probe.p if p is None else p
    return float(p @ case.probe.reward - case.beta * (p @ (np.log(p) - case.probe.lm.log_probs(case.probe.ref))))


@claim(
    method="copg", source="fletberliac2024, sec. 3", level=Level.PROPERTY,
    statement="R_beta is the same number for all sequences exactly at pi*, beta log Z, which is J(pi*) (2.1251999641 in the "
    "bandit, 0.2918666307 above uniform), and residual_rms is 0 there on any pairs",
    worked=lambda: [bandit(), worked_case()], generated=cases,
    breaks=[
        BETA_TWICE, KL_ADDED, TIES_DROPPED,
        Line("mean_over_tokens", room="reference", old='token_log_ratio(columns, "log_probs_ref").sum(axis=1), beta)',
             new='token_log_ratio(columns, "log_probs_ref").mean(axis=1), beta)'),
        Wrap("mean_over_tokens_in_torch", part="sequence_gap", room="scaled",
             by=lambda f: lambda columns: f(columns) / columns["mask"].sum(1)),
    ],
)  # fmt: skip
def regularised_score_is_flat_at_the_optimum(case: Case, room: Room) -> Margin:
    best, rounding = case.optimum, case.rounding + case.optimum.rounding
    lm, probe = case.probe.lm, case.probe
    log_z = np.logaddexp.reduce(lm.log_probs(probe.ref) + probe.reward / case.beta)
    columns = {k: x for k, x in best.columns().items() if k != "rows"}
    flat = room.parts.regularised_scores(columns, beta=case.beta)
    residual = room.parts.margin_report(columns, beta=case.beta)["residual_rms"]
    margins = [
        Margin.equal(flat, np.full(lm.N, case.beta * log_z), rounding),
        Margin.equal(best.probe.p @ flat, _objective(best), rounding),
        Margin.equal(residual, 0.0, rounding),
    ]
    here = {k: x for k, x in case.columns().items() if k != "rows"}
    margins.append(Margin.equal(room.parts.regularised_scores(here, beta=case.beta), case.regularised, rounding))
    if case.worked and lm.T == 1:
        margins.append(Margin.equal(case.beta * log_z, 2.1251999641, 0.5e-10))
        uniform = probe.p @ room.parts.regularised_scores(here, beta=case.beta)
        margins.append(Margin.equal(best.probe.p @ flat - uniform, 0.2918666307, 0.5e-10))
    return Margin.worst(margins)


@claim(
    method="copg", source="fletberliac2024, sec. 3; cohere2025", level=Level.PROPERTY,
    statement="over pairs from any two distributions, the mean parameter change of one step is step_size times the weighted "
    "sum of (R_beta(y) - R_beta(y')) (grad log pi(y) - grad log pi(y')), in every form and scale; densities of the sampler "
    "are never read",
    worked=lambda: [worked_case(length=2)], generated=lambda: cases(max_length=1),
    breaks=[
        BETA_TWICE, TIES_DROPPED,
        Wrap("uphill", part="Composition.gradient", by=lambda f: lambda *a: tuple(-x for x in f(*a))),
        Wrap("never_rescaled", part="scale_factor", by=lambda f: lambda scale, beta: 1.0),
        Line("mean_over_pairs", old="weight=self.group_size / 2)", new="weight=1 / self.group_size)"),
        Line("mean_over_rows", old="weight=float(self.group_size)", new="weight=1.0"),
        Line("old_policy_for_the_current", module="composition", room="reference",
             old='now = {**part, "log_probs": self.log_probs(part, theta)}',
             new='now = {**part, "log_probs": part["log_probs_old"] + 0 * self.log_probs(part, theta)}'),
        Line("old_policy_for_the_current_in_torch", module="composition", room="scaled",
             old='now = {**columns, "log_probs": self.log_probs(columns, theta)}',
             new='now = {**columns, "log_probs": columns["log_probs_old"] + 0 * self.log_probs(columns, theta)}'),
    ],
)  # fmt: skip
def mean_step_is_contrastive(case: Case, room: Room) -> Margin:
    n, r, scores = case.probe.lm.N, case.regularised, case.probe.lm.scores(case.probe.theta)
    both = case.weight * np.subtract.outer(r, r)
    exact = 0.5 * np.tensordot(both.sum(1) - both.sum(0), scores, axes=1)
    rows = list(itertools.product(range(n), repeat=2))
    margins = []
    for form, scale in (("square", "policy_gradient"), ("objective", "command_a"), ("detached", "policy_gradient")):
        change = steps_of(room, case, rows, form=form, scale=scale, step_size=0.5)
        factor = 2 * case.beta if scale == "command_a" else 1.0
        mean = np.tensordot(case.weight.ravel(), change, axes=1)
        margins.append(Margin.equal(mean, factor * exact, (1 + case.weight.sum()) * case.rounding * max(1.0, factor)))
    return Margin.worst(margins)


def steps_of(room: Room, case: Case, rows: list[tuple[int, ...]], **settings: Any) -> Float[np.ndarray, "n C V"]:
    """The change of the logits in one step of `Copg` for each listed group, off policy, from the probe's current logits."""
    probe = case.probe
    end = np.zeros(probe.lm.V)  # the end state has logits too
    start, ref, old = (
        room.inward(room.batch(np.vstack([x, end]).ravel())) for x in (probe.theta, probe.ref, probe.old)
    )
    policy = room.part("TabularSoftmax")(ref, probe.lm.C + 1, probe.lm.V)
    made = room.make("Copg", policy=policy, beta=case.beta, group_size=len(rows[0]), **settings)

    def step(script: Any) -> Any:
        state = made.init(script, 0)
        many = (len(state.theta), -1) if room.name == "scaled" else (-1,)
        now, before = (x.expand(*many).clone() if room.name == "scaled" else x for x in (start, old))
        return made.step(replace(state, theta=now, theta_old=before), script)[0].theta

    if room.name == "reference":
        ends = np.stack([step(_Unread(probe, [own])) for own in rows])
    else:
        script = _Unread(probe, rows)
        ends = step(
            SimpleNamespace(
                spec=script.spec, replicas=script.replicas, rollouts=lambda *a: room.inward(script.rollouts(*a))
            )
        ).numpy()
    change = ends - np.vstack([probe.theta, end]).ravel()
    return change.reshape(len(rows), probe.lm.C + 1, probe.lm.V)[:, :-1]


class _Unread(Scripted):
    """Scripted completions with made-up log-probs of the sampler: whoever reads them is found out."""

    def rollouts(self, policy: Any, requests: Any, key: Any) -> Any:
        """As scripted, densities unknown."""
        traj = super().rollouts(policy, requests, key)
        # densities that are not those of the samples: nothing may depend on them
        return replace(
            traj,
            log_probs_sampler=-1.0 - np.abs(np.sin(1.0 + np.arange(traj.actions.size))).reshape(traj.actions.shape),
        )


def _learner(laws: int = 0, **settings: Any) -> Any:
    """Settings of `Copg` with so many behaviour policies: bent softmax tables, the same in both rooms."""

    def build(room: Any, model: Any) -> dict[str, Any]:
        softmax = room.part("TabularSoftmax")
        tables = [0.5 * np.sin((i + 1.0) * np.arange(model.S * model.A)) for i in range(laws)]
        behaviours = tuple(softmax(room.inward(room.batch(x)), model.S, model.A) for x in tables)
        return {"policy": softmax.zeros(model.S, model.A), "beta": 0.3, "behaviours": behaviours, **settings}

    return build


_ONES = {"reward": "ones-minus-half-length"}
DEMOS = (
    Demo("token-mdp", "Copg", _learner(prompts=8, step_size=0.3), steps=60, options=_ONES, lockstep_steps=12),
    Demo(
        "token-mdp", "Copg", _learner(2, sampling="offline", group_size=4, prompts=4, step_size=0.2, updates=2), steps=40,
        options=_ONES, lockstep_steps=12,
    ),
    Demo(
        "token-mdp", "Copg",
        _learner(1, sampling="ping_pong", form="detached", period=3, refresh=2, group_size=3, step_size=0.2, centre=True),
        steps=40, options=_ONES, lockstep_steps=12,
    ),
)  # fmt: skip
