"""Claims about values, occupancies and the coverage coefficients, and what they have to do with spanning capacity."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.errors import require
from polytheory.policy_classes import PolicyClass, random_policies
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.exploration.agnostic_instances import Case, case_of, cases, worked
from polytheory.proofs_check.exploration.agnostic_oracles import (
    deterministic_worlds,
    one_hot,
    q_by_paths,
    value,
    values,
    visits,
)
from polytheory.proofs_check.exploration.selection_claims import METHOD

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

MODULE = "coverage"
WRONG_LAYER = [
    Line("reward_of_the_first_layer", room="reference", module=MODULE, old="v = r[h][states, own] +",
         new="v = r[0][states, own] +"),
    Line("reward_of_the_first_layer_scaled", room="scaled", module=MODULE, old="q = r[h].flatten() +",
         new="q = r[0].flatten() +"),
]  # fmt: skip


def everyone(case: Case, room: Room) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Occupancies of the class, their largest by state, and by pair, as the room computes them."""
    parts = room.parts
    d = parts.occupancies(case.P, case.start, case.actions)
    return d, parts.largest_occupancy(d), parts.largest_pair_occupancy(d, case.actions, case.sizes.A)


@claim(
    method=METHOD, source="definition", level=Level.PROPERTY,
    statement="values and occupancies of a class are those of all its episodes, listed one by one",
    worked=worked, generated=cases,
    breaks=[
        *WRONG_LAYER,
        Line("actions_of_the_first_layer", room="reference", module=MODULE, old="P[h][states, actions[:, h]])",
             new="P[h][states, actions[:, 0]])"),
        Line("no_moves_scaled", room="scaled", module=MODULE, old="+ v @ P[h].flatten(0, 1).T",
             new="+ 0 * v @ P[h].flatten(0, 1).T"),
    ],
)  # fmt: skip
def values_and_occupancies_are_exact(case: Case, room: Room) -> Margin:
    d, _, _ = everyone(case, room)
    listed = np.array([visits(case, one_hot(p, case.sizes.A)) for p in case.actions])
    found = room.parts.class_values(case.P, case.r, case.start, case.actions)
    return Margin.worst([Margin.equal(d, listed, case.rounding), Margin.equal(found, values(case), case.rounding)])


@claim(
    method=METHOD, source="kakade2002, Lemma 6.1 with a finite horizon", level=Level.PROPERTY,
    statement="performance difference: V(p) - V(pi) = sum_h E_(x ~ d^p_h) [Q^pi_h(x, p(x)) - V^pi_h(x)]",
    worked=worked, generated=cases,
    breaks=[
        Line("no_future", room="reference", module=MODULE, old="q[h] = r[h] + P[h] @ v", new="q[h] = r[h] + 0 * (P[h] @ v)"),
        Line("no_future_scaled", room="scaled", module=MODULE, old="q.append(r[h] + P[h] @ v)",
             new="q.append(r[h] + 0 * (P[h] @ v))"),
        Line("greedy_value", room="reference", module=MODULE, old="v = (probs[h] * q[h]).sum(axis=1)",
             new="v = q[h].max(axis=1)"),
        Line("greedy_value_scaled", room="scaled", module=MODULE, old="v = (probs[h] * q[-1]).sum(1)", new="v = q[-1].amax(1)"),
    ],
)  # fmt: skip
def performance_differences_add_up(case: Case, room: Room) -> Margin:
    q, base = room.parts.q_values(case.P, case.r, case.probs), value(case, case.probs)
    advantage = q - (case.probs * q).sum(axis=2, keepdims=True)
    d, gains = everyone(case, room)[0], []
    for k, policy in enumerate(case.actions):
        taken = np.take_along_axis(advantage, policy[..., None], axis=2)[..., 0]
        gains.append((d[k] * taken).sum())
    return Margin.equal(gains, values(case) - base, 2 * case.rounding)


@claim(
    method=METHOD, source="jia2023; xie2022", level=Level.PROPERTY,
    statement="layer by layer, sum_(x, a) max_pi d_h(x, a) is at most the mean number of pairs reached in a deterministic "
    "MDP of the "
    "model, which is at most spanning capacity",
    worked=worked, generated=cases,
    breaks=[Wrap("sum_over_policies", part="largest_pair_occupancy",
                 by=lambda f: lambda d, actions, A: f(d, actions, A) + f(d, actions, A) * (len(d) > 1)),
            Line("ignores_actions", room="reference", module=MODULE, old="np.where(taken, d[..., None], 0.0).max(axis=0)",
                 new="np.where(taken >= 0, d[..., None], 0.0).max(axis=0)"),
            Line("ignores_actions_scaled", room="scaled", module=MODULE, old="torch.where(actions == a, d,",
                 new="torch.where(actions >= 0, d,")],
)  # fmt: skip
def coverability_is_below_spanning_capacity(case: Case, room: Room) -> Margin:
    from polytheory.reference.exploration.spanning import spanning_bounds, spanning_capacity

    H, _, A = case.sizes
    pairs = everyone(case, room)[2]
    prob, after, roots = deterministic_worlds(case)
    mean = np.zeros(H)
    for p, table, root in zip(prob, after, roots, strict=True):
        for h, found in enumerate(_pairs(case, table, int(root))):
            mean[h] += p * len(found)
    most = spanning_capacity(case.actions, A).by_layer
    upper = [high for _, high in spanning_bounds(case.actions, A, tries=1)]
    return Margin.worst([
        Margin.at_most(pairs.sum(axis=(1, 2)), mean, case.rounding), Margin.at_most(mean, most, case.rounding),
        Margin.at_most(most, upper, 0.0),
        Margin.at_most(room.parts.coverability(pairs), max(most), case.rounding),
    ])  # fmt: skip


def _pairs(case: Case, after: np.ndarray, root: int) -> list[set[tuple[int, int]]]:
    from polytheory.proofs_check.exploration.selection_claims import _reached

    return _reached(case, after, root)


@claim(
    method=METHOD, source="xie2022, Lemma 3", level=Level.PROPERTY,
    statement="coverability is the least concentrability of a reset law: no law does better, and the best reset law attains it",
    worked=worked, generated=cases,
    breaks=[
        Wrap("uniform_law", part="best_reset", by=lambda f: lambda largest: largest * 0 + 1 / largest.shape[1]),
        Line("mean_over_layers", room="reference", module=MODULE, old=".sum(axis=1).max())", new=".sum(axis=1).mean())"),
        Line("mean_over_layers_scaled", room="scaled", module=MODULE, old="largest.flatten(1).sum(1).max()",
             new="largest.flatten(1).sum(1).mean()"),
        Line("mean_ratio", room="reference", module=MODULE, old="return float(_ratio(largest, mu).max())",
             new="return float(_ratio(largest, mu).mean())"),
        Line("clipped_ratio_scaled", room="scaled", module=MODULE, old="torch.where(largest > 0, largest / mu, 0.0).max()",
             new="torch.where(largest > 0, largest / mu, 0.0).mean()"),
    ],
)  # fmt: skip
def coverability_is_the_least_concentrability(case: Case, room: Room) -> Margin:
    parts = room.parts
    largest = everyone(case, room)[1]
    cover, best = parts.coverability(largest), parts.best_reset(largest)
    sums = np.array([[sum(layer)] for layer in largest])
    alive = largest[sums[:, 0] > 0]
    law = np.asarray(best)[sums[:, 0] > 0]
    tolerance = 64 * case.rounding * (1 + cover)
    return Margin.worst([
        Margin.at_most(cover, parts.concentrability(largest, case.mu), tolerance),
        Margin.equal(parts.concentrability(alive, law), cover, tolerance),
        Margin.equal(best.sum(axis=1), np.ones(len(best)), tolerance),
    ])  # fmt: skip


@claim(
    method=METHOD, source="krishnamurthy2025; xie2022", level=Level.PROPERTY,
    statement="state coverability <= pair coverability <= A times state coverability; concentrability <= pushforward "
    "concentrability; state coverability <= pushforward coverability; a law that misses a reached state has infinite "
    "concentrability",
    worked=worked, generated=cases,
    breaks=[
        Line("wrong_layer", room="reference", module=MODULE, old="P[h].max(axis=(0, 1)), mu[h + 1]",
             new="P[h].min(axis=(0, 1)), mu[h + 1]"),
        Line("wrong_layer_scaled", room="scaled", module=MODULE, old="torch.cat([start[None], P[:-1].amax((1, 2))])",
             new="torch.cat([start[None], P[:-1].amin((1, 2))])"),
        Line("mean_successor", room="reference", module=MODULE, old="P[:-1].max(axis=(1, 2))", new="P[:-1].mean(axis=(1, 2))"),
        Line("mean_successor_scaled", room="scaled", module=MODULE, old="return max([1.0, *P[:-1].amax((1, 2))",
             new="return max([1.0, *P[:-1].mean((1, 2))"),
        Line("misses_forgiven", room="reference", module=MODULE, old="np.where(a > 0, a / b, 0.0)",
             new="np.where(b > 0, a / b, 0.0)"),
        Line("misses_forgiven_scaled", room="scaled", module=MODULE, old="torch.where(largest > 0, largest / mu, 0.0)",
             new="torch.where(mu > 0, largest / mu, 0.0)"),
    ],
)  # fmt: skip
def coverage_coefficients_are_ordered(case: Case, room: Room) -> Margin:
    parts, A = room.parts, case.sizes.A
    _, states, pairs = everyone(case, room)
    cover, of_pairs = parts.coverability(states), parts.coverability(pairs)
    push = parts.pushforward_concentrability(case.P, case.start, case.mu)
    tolerance = case.rounding * (1 + push)
    ratios = [case.start[x] / case.mu[0, x] for x in range(case.sizes.n)]
    ratios += [case.P[h, x, a, y] / case.mu[h + 1, y] for h, x, a, y in np.ndindex(case.P[:-1].shape)]
    found = [
        Margin.equal(push, max(ratios), tolerance),
        Margin.at_most([cover, of_pairs], [of_pairs, A * cover], tolerance),
        Margin.at_most(parts.concentrability(states, case.mu), push, tolerance),
        Margin.at_most(cover, parts.pushforward_coverability(case.P), tolerance),
    ]
    h, x = np.argwhere(states > 0)[-1]
    missing = case.mu.copy()
    missing[h, x] = 0.0
    found.append(Margin.proved(parts.concentrability(states, missing) == np.inf))
    return Margin.worst(found)


@claim(
    method=METHOD, source="krishnamurthy2025, block MDPs", level=Level.PROPERTY,
    statement="in a block MDP pushforward coverability is at most the number of latent states, and Q^pi(x, a) is the same "
    "for all "
    "observations of a latent state, whatever the observation-based policy",
    worked=lambda: [case_of("block-two-state", random_policies(3, 8, 2, size=4))],
    generated=lambda: _emissions(),
    breaks=[
        Line("sum_of_successors", room="reference", module=MODULE, old="P[:-1].max(axis=(1, 2))",
             new="P[:-1].sum(axis=(1, 2))"),
        Line("sum_of_successors_scaled", room="scaled", module=MODULE, old="return max([1.0, *P[:-1].amax((1, 2))",
             new="return max([1.0, *P[:-1].sum((1, 2))"),
        Line("values_by_observation", room="reference", module=MODULE, old="q[h] = r[h] + P[h] @ v",
             new="q[h] = r[h] + P[h] @ v + v[:, None]"),
        Line("values_by_observation_scaled", room="scaled", module=MODULE, old="q.append(r[h] + P[h] @ v)",
             new="q.append(r[h] + P[h] @ v + v[:, None])"),
    ],
)  # fmt: skip
def blocks_share_their_values(case: Case, room: Room) -> Margin:
    X = case.sizes.n // 2
    latent = room.parts.pushforward_coverability(case.P)
    spread = [np.zeros(1)]
    for policy in case.actions:
        q = room.parts.q_values(case.P, case.r, one_hot(policy, 2))
        spread.append(np.ptp(q.reshape(len(q), 2, X, 2), axis=2).ravel())
    return Margin.worst([
        Margin.at_most(latent, 2.0, case.rounding),
        Margin.equal(np.concatenate(spread), 0 * np.concatenate(spread), case.rounding),
    ])  # fmt: skip


def _emissions() -> Any:
    """Strategy: block models with other emission laws."""
    st = require("hypothesis", "conform").strategies

    def build(weights: list[int]) -> Case:
        law = tuple(w / sum(weights) for w in weights)
        policies = random_policies(3, 2 * len(law), 2, size=3, seed=sum(weights))
        return case_of("block-two-state", policies, emission=law)

    return st.lists(st.integers(1, 4), min_size=1, max_size=4).map(build)


@claim(
    method=METHOD, source="definition", level=Level.PROPERTY, rooms=("reference",),
    statement="the largest occupancy over all policies is that of the deterministic ones, tried one by one; the "
    "completeness error "
    "is the loss of the best layer of the class against a greedy one, and 0 for the class of all policies",
    worked=lambda: worked()[:3], generated=lambda: cases(layers=(1, 2), most=3),
    breaks=[
        Line("least_reach", module=MODULE, old="reach = (P[k] @ reach).max(axis=1)", new="reach = (P[k] @ reach).min(axis=1)"),
        Line("best_on_average", module=MODULE, old="loss.max(axis=1).min()", new="loss.mean(axis=1).min()"),
        Line("first_member", module=MODULE, old="loss.max(axis=1).min()", new="loss.max(axis=1)[0]"),
    ],
)  # fmt: skip
def searches_agree_with_trying_everything(case: Case, room: Room) -> Margin:
    H, n, A = case.sizes
    tried = [np.reshape(p, (H, n)) for p in product(range(A), repeat=H * n)]
    most = np.max([visits(case, one_hot(p, A)) for p in tried], axis=0)
    found = room.parts.largest_occupancy_of_all(case.P, case.start)
    error = []
    for policy in case.actions:
        q, worst = q_by_paths(case, one_hot(policy, A)), 0.0
        for h in range(H):
            losses = [max(max(q[h, x]) - q[h, x, other[h, x]] for x in range(n)) for other in case.actions]
            worst = max(worst, min(losses))
        error.append(worst)
    all_policies = PolicyClass(np.array(tried), A)
    return Margin.worst([
        Margin.equal(found, most, case.rounding),
        Margin.equal(room.parts.completeness_error(case.P, case.r, case.actions), error, case.rounding),
        Margin.equal(room.parts.completeness_error(case.P, case.r, all_policies.actions[:2 ** 4]).max()
                     if len(tried) <= 2 ** 4 else 0.0, 0.0, case.rounding),
    ])  # fmt: skip
