"""Claims about PSDP and CPI: how errors propagate, that CPI climbs, and that both fail where theory says they must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.access import GenerativeModel, MuReset
from polytheory.models.layered import uniform_resets
from polytheory.policy_classes import PolicyClass, make_class
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.exploration.agnostic_instances import Case, case_of, cases, worked
from polytheory.proofs_check.exploration.agnostic_oracles import episodes, one_hot, optimum, q_by_paths, value, visits
from polytheory.proofs_check.exploration.selection_claims import METHOD

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

WORST = [
    Line("worst_member", room="reference", module="reset_parts", old="k = int(np.argmax(gains))\n    return k, float(gains[k])",
         new="k = int(np.argmin(gains))\n    return k, float(gains[k])"),
    Line("worst_member_scaled", room="scaled", module="reset_parts",
         old="k = int(torch.argmax(gains))\n    return k, float(gains[k])",
         new="k = int(torch.argmin(gains))\n    return k, float(gains[k])"),
]  # fmt: skip
OWN_START = [
    Line("own_start_law", room="reference", module="reset_parts", old="best_restriction(mu[h][:, None] * q",
         new="best_restriction((np.arange(n) == 0)[:, None] * q"),
    Line("own_start_law_scaled", room="scaled", module="reset_parts", old="best_restriction(mu[h][:, None] * q",
         new="best_restriction((torch.arange(n) == 0)[:, None] * q"),
]  # fmt: skip


def lost(case: Case, policy: np.ndarray) -> float:
    """``V* - V`` of a deterministic policy, by listing its episodes."""
    best, _ = optimum(case)
    return float(case.start @ best[0]) - value(case, one_hot(policy, case.sizes.A))


@claim(
    method=METHOD, source="bagnell2003, Theorem 1, with every constant", level=Level.PROPERTY,
    statement="PSDP: V* - V <= sum_h max_x d*_h(x) / mu_h(x) times E_mu_h of the loss of layer h against a greedy action; with "
    "estimation errors below eps on every cell and the class of all policies, V* - V <= H C 2 n eps",
    worked=worked, generated=cases,
    breaks=WORST,
)  # fmt: skip
def psdp_errors_propagate_linearly(case: Case, room: Room) -> Margin:
    H, n, A = case.sizes
    star = optimum(case)[1]
    d = visits(case, one_hot(star, A))
    rows = np.array(list(np.ndindex(*[A] * n)))
    layerwise = PolicyClass(np.repeat(rows[:, None], H, axis=1), A)  # complete: every layer policy at every layer
    eps = 1 / 64
    sign = 1 - 2 * (np.indices((H, n, A)).sum(axis=0) % 2)
    slacks = []
    for actions, noise in ((case.actions, 0.0), (layerwise.actions, 0.0), (layerwise.actions, eps)):
        taken, _ = room.parts.population_psdp(case.P, case.r, case.mu, actions, noise * sign)
        q = q_by_paths(case, one_hot(taken, A))
        at = np.take_along_axis(q, taken[..., None], axis=2)[..., 0]
        losses = (case.mu * (q.max(axis=2) - at)).sum(axis=1)
        gap = lost(case, taken)
        slacks.append(float((np.max(d / case.mu, axis=1) * losses).sum()) - gap)
        if actions is layerwise.actions:
            slacks.append(H * float(np.max(d / case.mu)) * 2 * n * noise - gap)
    return Margin(min(slacks), 4 * case.rounding * (1 + float(np.max(1 / case.mu))))


@claim(
    method=METHOD, source="krishnamurthy2025, failure of PSDP and CPI without completeness", level=Level.CERTIFICATE,
    statement="exact PSDP is worth 0 on the trap, where the class has 1/2 and concentrability is 3; on the amplification "
    "model one slip "
    "of 2.5 % in the last layer costs 0.651605 with 5 layers, above H C eps = 0.25, and 0.05 with a complete class",
    worked=lambda: [None],
    breaks=[*WORST, *OWN_START],
)  # fmt: skip
def psdp_fails_without_completeness(_: None, room: Room) -> Margin:
    trap = case_of("psdp-trap", make_class("open-loop", (2, 3, 2)))
    taken, _ = room.parts.population_psdp(trap.P, trap.r, trap.mu, trap.actions, 0 * trap.r)
    found, expected = [value(trap, one_hot(taken, 2))], [0.0]
    loop = case_of("error-amplification", make_class("open-loop", (5, 2, 2)))
    complete = np.array([[[0, 0]] * 5, [[1, 1]] * 5, [[0, 1]] * 5])
    for actions, slip in ((loop.actions, 0.0), (loop.actions, 0.0126), (complete, 0.0126)):
        errors = np.zeros_like(loop.r)
        errors[-1, :, 1] = slip  # enough to prefer action 1 on both states, which costs 0.025 on average
        if len(actions) == 3:
            errors[-1, 1, 1] -= 1.0  # the complete class could do better at G: the same slip takes that away
        taken, _ = room.parts.population_psdp(loop.P, loop.r, loop.mu, actions, errors)
        found.append(lost(loop, taken))
    expected += [0.0, 0.651605]
    checks = [Margin.equal(found[:3], expected, loop.rounding)]
    checks.append(Margin.at_most(found[3], 5 * 2 * 0.025, loop.rounding))  # linear in eps once the class is complete
    return Margin.worst(checks)


@claim(
    method=METHOD, source="krishnamurthy2025, errors grow exponentially without completeness", level=Level.CERTIFICATE,
    statement="the loss of PSDP after one slip is 0.01 * 1.9^(H-1) for H = 2..8 (slope log 1.9 against H), while the "
    "linear bound "
    "H C eps is 0.01 H: broken from H = 3 on",
    worked=lambda: list(range(2, 9)),
    breaks=[*WORST, *OWN_START],
)  # fmt: skip
def errors_are_amplified_exponentially(H: int, room: Room) -> Margin:
    case = case_of("error-amplification", make_class("open-loop", (H, 2, 2)), horizon=H, last=0.01)
    errors = np.zeros_like(case.r)
    errors[-1, :, 1] = 0.00251
    taken, _ = room.parts.population_psdp(case.P, case.r, case.mu, case.actions, errors)
    gap = lost(case, taken)
    linear = H * 2 * 0.005
    broken = gap - linear if H >= 3 else 0.0
    return Margin.worst([Margin.equal(gap, 0.01 * 1.9 ** (H - 1), case.rounding), Margin(broken, 0.0)])


def gain_of(case: Case, probs: np.ndarray, policy: np.ndarray) -> float:
    """``G(p)`` by listing the episodes from every reset layer."""
    H, A = case.sizes.H, case.sizes.A
    q = q_by_paths(case, probs)
    v = (probs * q).sum(axis=2)
    d = sum(visits(case, probs, layer=h, start=case.mu[h]) for h in range(H)) / H
    return float((d * ((one_hot(policy, A) * q).sum(axis=2) - v)).sum())


def climbed(case: Case, probs: np.ndarray) -> float:
    """``J_mu`` by listing the episodes from every reset layer."""
    H = case.sizes.H
    return (
        sum(float(e.prob @ e.returns) for h in range(H) for e in [episodes(case, probs, layer=h, start=case.mu[h])]) / H
    )


@claim(
    method=METHOD, source="kakade2002, Theorem 4.1, with a finite horizon", level=Level.PROPERTY,
    statement="a step of CPI raises J_mu by at least alpha G - alpha^2 H (H - 1) max|A|, never lowers it, and its gain is "
    "the one that "
    "listed episodes have",
    worked=lambda: worked()[:1] + worked()[2:], generated=lambda: cases(most=3),
    breaks=[
        Wrap("full_steps", part="step_length", by=lambda f: lambda gain, *_: 1.0 if gain > 0 else 0.0),
        Wrap("backwards", part="mixed", by=lambda f: lambda pi, p, alpha: f(pi, 2 * pi - p, alpha)),
        Line("no_resets_later", room="reference", module="reset_parts", old="d[h + 1] = mu[h + 1] / H +", new="d[h + 1] ="),
        Line("no_resets_later_scaled", room="scaled", module="reset_parts", old="d.append(mu[h + 1] / H +",
             new="d.append(0 * mu[h + 1] +"),
    ],
)  # fmt: skip
def cpi_climbs(case: Case, room: Room) -> Margin:
    H, _, A = case.sizes
    probs, checks = case.probs, []
    for _ in range(2):
        new, gain, alpha = room.parts.population_cpi_step(case.P, case.r, case.mu, probs, case.actions)
        k = int(np.argmax([gain_of(case, probs, p) for p in case.actions]))
        q = q_by_paths(case, probs)
        advantage = (one_hot(case.actions[k], A) * q).sum(axis=2) - (probs * q).sum(axis=2)
        curvature = H * (H - 1) * float(np.max(np.abs(advantage)))
        rise = climbed(case, new) - climbed(case, probs)
        best = min(1.0, gain / (2 * curvature)) if gain > 0 and curvature > 0 else float(gain > 0)
        checks += [
            Margin.equal(gain, gain_of(case, probs, case.actions[k]), 4 * case.rounding),
            Margin(rise - (alpha * gain - alpha**2 * curvature if gain > 0 else 0.0), 8 * case.rounding),
            Margin(rise, 8 * case.rounding),
            # where two members tie to rounding, the length may belong to the other one
            Margin(-abs(alpha - best), 1e-9 if _alone(case, probs) else 1.0),
        ]
        probs = np.asarray(new)
    return Margin.worst(checks)


def _alone(case: Case, probs: np.ndarray) -> bool:
    gains = sorted(gain_of(case, probs, p) for p in np.unique(case.actions, axis=0))
    return abs(gains[-1]) > 1e-6 and (len(gains) == 1 or gains[-1] - gains[-2] > 1e-9)


@claim(
    method=METHOD, source="kakade2002, Corollary 4.5, with a finite horizon", level=Level.PROPERTY,
    statement="V* - V <= C H sum_h E_(d_mu,h)[max_a A_h]: a policy that nothing improves on the reset occupancy is "
    "optimal where resets reach",
    worked=lambda: worked()[:1] + worked()[2:], generated=lambda: cases(most=2),
    breaks=[
        Line("half_the_mass", room="reference", module="reset_parts", old="d[0] = mu[0] / H", new="d[0] = 0 * mu[0]"),
        Line("half_the_mass_scaled", room="scaled", module="reset_parts", old="d = [mu[0] / H]", new="d = [0 * mu[0]]"),
        Line("no_reset_mass", room="reference", module="reset_parts", old="d[h + 1] = mu[h + 1] / H +", new="d[h + 1] = 0 *"),
        Line("no_reset_mass_scaled", room="scaled", module="reset_parts", old="d.append(mu[h + 1] / H + torch",
             new="d.append(0 * torch"),
    ],
)  # fmt: skip
def stationary_policies_are_good(case: Case, room: Room) -> Margin:
    H, A = case.sizes.H, case.sizes.A
    best, star = optimum(case)
    q, v0 = q_by_paths(case, case.probs), value(case, case.probs)
    d = room.parts.reset_occupancy(case.P, case.mu, case.probs)
    worst = (d * (q.max(axis=2) - (case.probs * q).sum(axis=2))).sum()
    C = float(np.max(visits(case, one_hot(star, A)) / case.mu))
    mean = sum(visits(case, case.probs, layer=h, start=case.mu[h]) for h in range(H)) / H
    return Margin.worst([
        Margin(C * H * float(worst) - (float(case.start @ best[0]) - v0), case.rounding * (1 + C)),
        Margin.equal(d, mean, case.rounding),
    ])  # fmt: skip


@claim(
    method=METHOD, source="bagnell2003; kakade2002", level=Level.PROPERTY,
    statement="the estimates of PSDP are unbiased: over all episodes that take a uniform first action, the cells are "
    "mu_h(x) Q_h(x, a)",
    worked=worked, generated=cases,
    breaks=[
        Line("no_weight", room="reference", module="reset_parts", old="total * n_actions / len(s)", new="total / len(s)"),
        Line("no_weight_scaled", room="scaled", module="reset_parts", old="total * n_actions / cell.shape[-1]",
             new="total / cell.shape[-1]"),
    ],
)  # fmt: skip
def cells_are_unbiased(case: Case, room: Room) -> Margin:
    H, n, A = case.sizes
    q, checks = q_by_paths(case, case.probs), []
    for h in range(H):
        law = case.probs.copy()
        law[h] = 1 / A
        e = episodes(case, law, layer=h, start=case.mu[h])
        m = len(e.prob)  # weights stand in for frequencies: m rows of weight m * prob
        cells = room.parts.cell_means(e.states[:, 0] - h * n, e.actions[:, 0], m * e.prob * e.returns, n, A)
        checks.append(Margin.equal(cells, case.mu[h][:, None] * q[h], 4 * A * case.rounding))
    return Margin.worst(checks)


@claim(
    method=METHOD, source="krishnamurthy2025; kearns1999", level=Level.STATISTICAL,
    statement="on the trap PSDP with 4000 episodes a layer ends at value 0 in every replica, as with exact expectations, "
    "and 200 trees "
    "find the member worth 1/2 in every replica (error level 1e-5)",
    worked=lambda: [None],
    breaks=[
        Line("last_estimate", room="reference", module="selection", old="int(np.argmax(state.totals))",
             new="int(np.argmin(state.totals))"),
        Line("last_estimate_scaled", room="scaled", module="selection", old="torch.argmax(state.totals, dim=1)",
             new="torch.argmin(state.totals, dim=1)"),
        Line("first_layer_first", room="reference", module="resets", old="h = H - 1 - state.t", new="h = 1"),
        Line("first_layer_first_scaled", room="scaled", module="resets", old="h = H - 1 - state.t", new="h = 1"),
    ],
)  # fmt: skip
def sampling_does_not_help_psdp(_: None, room: Room) -> Margin:
    case = case_of("psdp-trap", make_class("open-loop", (2, 3, 2)))
    access = MuReset(case.model, reset=uniform_resets(case.sizes))
    psdp = room.run("Psdp", access, steps=2, n=2, policies=case.policies, batch=4000)
    # last layer: const 0 has mean 1/3 against 1/6, from differences in [-2, 2]; Hoeffding puts a wrong choice of one replica
    # below exp(-2 * 4000 / 6^2 / 4^2) < 1e-6. First layer: all returns are then 0 and the first member is taken.
    tree = room.run("TrajectoryTree", GenerativeModel(case.model), steps=1, n=2, policies=case.policies, batch=200)
    picked = [_table(policy, case, tree) for policy in tree.policies]
    members = np.concatenate(picked)
    return Margin.worst([
        Margin.equal(psdp.state["chosen"], np.zeros((2, 2)), 0.0), Margin.equal(members[:, 0], [0.0, 0.0], 0.0),
        Margin.equal(members[:, 3], [1.0, 1.0], 0.0),
    ])  # fmt: skip


def _table(policy: Any, case: Case, trace: Any) -> np.ndarray:
    """Action by replica and state."""
    table = np.asarray(policy.table() if callable(policy.table) else policy.table)
    return table.reshape(-1, 7, 2).argmax(axis=2)
