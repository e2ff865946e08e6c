"""Claims about POPLER: its weights, its reward processes, what is lost by leaving states out, and a whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polytheory.access import Online
from polytheory.policy_classes import PolicyClass, everything, ton_sunflower, tons
from polytheory.proofs_check.claims import Level, Line, Margin, Setting, claim
from polytheory.proofs_check.exploration.agnostic_instances import Case, case_of, cases
from polytheory.proofs_check.exploration.agnostic_oracles import episodes, one_hot, value, values, visits
from polytheory.proofs_check.exploration.selection_claims import METHOD

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

MODULE = "popler_parts"
BIASED = [
    Line("inverted_weight", room="reference", module=MODULE, old="own * len(core) / np.where(count > 0, count, 1)",
         new="own * len(core) * count"),
    Line("inverted_weight_scaled", room="scaled", module=MODULE, old="len(core) / count.clamp(min=1)", new="len(core) * count"),
    Line("no_core_size", room="reference", module=MODULE, old="own * len(core) /", new="own * 1 /"),
    Line("no_core_size_scaled", room="scaled", module=MODULE, old="own.double() * len(core) /", new="own.double() /"),
]  # fmt: skip
ONE_STEP_MORE = [
    Line("reward_of_the_end", room="reference", module=MODULE, old="return sums[np.arange(len(rewards)), ends]",
         new="return sums[np.arange(len(rewards)), np.minimum(ends + 1, rewards.shape[1])]"),
    Line("reward_of_the_end_scaled", room="scaled", module=MODULE, old="device=rewards.device), ends]",
         new="device=rewards.device), (ends + 1).clamp(max=rewards.shape[1])]"),
]  # fmt: skip
STAYS = [
    Line("start_is_an_end", room="reference", module=MODULE, old="if not from_top:\n        hit[..., 0] = False",
         new="if False:\n        pass"),
    Line("start_is_an_end_scaled", room="scaled", module=MODULE, old="if not from_top:\n        hit[..., 0] = False",
         new="if False:\n        pass"),
]  # fmt: skip


def worked() -> list[Case]:
    """At most 2-tons on the two-state model, and all policies with two layers."""
    return [
        case_of("layered-two-state", tons(3, 2, 2, most=2)),
        case_of("layered-two-state", everything(2, 2, 2), horizon=2),
    ]


def process(case: Case, room: Room, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact ``P_hat`` and ``r_hat`` of every member with data from TOP and the states of ``reach`` [S], and node states.

    Every episode of every core policy is put in, weighted by its probability in place of its frequency.
    """
    H, n, A = case.sizes
    sunflower = ton_sunflower(case.policies)
    core = PolicyClass(sunflower.core, A)
    slot, node_state = room.parts.petal_slots(sunflower.petals)
    N, D = node_state.shape
    weight, reward = np.zeros((N, D + 1, D + 2)), np.zeros((N, D + 1, D + 2))
    for node in [H * n, *np.flatnonzero(reach)]:
        top = node == H * n
        source = np.zeros(N, dtype=np.int64) if top else np.where(slot[:, node] > 0, slot[:, node], -1)
        layer = 0 if top else node // n
        start = case.start if top else np.eye(n)[node % n]
        for policy in sunflower.core:
            e = episodes(case, one_hot(policy, A), layer=layer, start=start)
            ends, to = room.parts.segment_ends(slot, e.states, e.mask, bool(top))
            w = room.parts.segment_weights(core.by_state, case.policies.by_state, e.states, e.actions, e.mask, ends)
            gained = room.parts.segment_rewards(e.rewards, e.mask, ends)
            weight, reward = room.parts.add_segments(weight, reward, source, to, w * e.prob / len(core), gained)
    return weight, reward, node_state


@claim(
    method=METHOD, source="jia2023, Lemma on the Markov reward process", level=Level.PROPERTY,
    statement="with data from every petal state, the reward process of each member has rows that sum to 1 and its exact "
    "value at TOP, "
    "and visits each petal state as often as the member does",
    worked=worked, generated=lambda: cases(most=4),
    breaks=[*BIASED, *ONE_STEP_MORE, *STAYS,
            Line("deepest_first_backwards", room="reference", module=MODULE,
                 old="for u in reversed(range(P_hat.shape[1])):\n        val",
                 new="for u in range(P_hat.shape[1]):\n        val"),
            Line("deepest_first_backwards_scaled", room="scaled", module=MODULE,
                 old="for u in reversed(range(P_hat.shape[-2])):\n        val",
                 new="for u in range(P_hat.shape[-2]):\n        val")],
)  # fmt: skip
def the_reward_process_has_the_values(case: Case, room: Room) -> Margin:
    H, n, A = case.sizes
    weight, reward, node_state = process(case, room, np.arange(H * n) >= 0)
    rows = weight.sum(axis=2)[:, 1:][node_state >= 0]
    seen, visit = [], room.parts.visit_probabilities(weight)
    for k, policy in enumerate(case.actions):
        at = visits(case, one_hot(policy, A)).ravel()
        seen += [visit[k, d] - at[s] for d, s in enumerate(node_state[k]) if s >= 0]
    tolerance = 4 * case.rounding * (H * A + 1)
    return Margin.worst([
        Margin.equal(weight.sum(axis=2)[:, 0], np.ones(len(case.actions)), tolerance),
        Margin.equal(rows, np.ones(len(rows)), tolerance),
        Margin.equal(room.parts.evaluate_nodes(weight, reward), values(case), tolerance),
        Margin.equal(seen, np.zeros(len(seen)), tolerance),
    ])  # fmt: skip


@claim(
    method=METHOD, source="jia2023, truncation of the reward process", level=Level.PROPERTY,
    statement="leaving petal states out of the data never raises a value (rewards >= 0), and lowers it by at most the "
    "probability of "
    "visiting one of them (returns in [0, 1]); more data never lowers it",
    worked=worked, generated=lambda: cases(most=4),
    breaks=[*BIASED[:2],
            Line("unlearnt_states_pay", room="reference", module=MODULE, old="val = np.zeros(", new="val = 0.5 + np.zeros("),
            Line("unlearnt_states_pay_scaled", room="scaled", module=MODULE, old="val = torch.zeros_like(P_hat[..., 0, :])",
                 new="val = 0.5 + torch.zeros_like(P_hat[..., 0, :])"), *ONE_STEP_MORE],
)  # fmt: skip
def leaving_states_out_costs_their_visits(case: Case, room: Room) -> Margin:
    H, n, A = case.sizes
    truth, petals = values(case), ton_sunflower(case.policies).petals.reshape(len(case.actions), -1)
    own = [episodes(case, one_hot(policy, A)) for policy in case.actions]
    slacks, before = [], None
    for size in range(0, H * n + 1, 3):
        reach = np.arange(H * n) >= H * n - size  # growing sets
        weight, reward, _ = process(case, room, reach)
        found = room.parts.evaluate_nodes(weight, reward)
        slacks += list(truth - found)
        if before is not None:
            slacks += list(found - before)
        before = found
        for k, e in enumerate(own):
            missed = petals[k] & ~reach
            hit = (missed[np.minimum(e.states, H * n - 1)] & e.mask).any(axis=1)
            slacks.append(e.prob @ hit - (truth[k] - found[k]))
    return Margin(float(min(slacks)), 4 * case.rounding * (H * A + 1))


@claim(
    method=METHOD, source="jia2023, worked on the two-state model", level=Level.CERTIFICATE,
    statement="the policy with action 1 at (layer 0, state 0) and (1, 1): value 0 with TOP alone, 0.05066667 with the "
    "first state, "
    "0.25866667 with both; rows 1, 0.6 and 0.4; weights never above K",
    worked=lambda: [case_of("layered-two-state", PolicyClass(np.array([[[1, 0], [0, 1], [0, 0]]]), 2))],
    breaks=[*BIASED, *ONE_STEP_MORE, *STAYS],
)  # fmt: skip
def the_worked_process(case: Case, room: Room) -> Margin:
    found, expected = [], [0.0, 0.152 / 3, value(case, one_hot(case.actions[0], 2))]
    for reached in ([], [0], [0, 3]):
        weight, reward, _ = process(case, room, np.isin(np.arange(6), reached))
        found.append(float(room.parts.evaluate_nodes(weight, reward)[0]))
    rows = [weight[0, 0, 1], weight[0, 1, 2], weight[0, 1, 3], weight[0, 2, 3]]
    return Margin.worst([
        Margin.equal(found, expected, case.rounding), Margin.equal(expected[2], 0.776 / 3, case.rounding),
        Margin.equal(rows, [1.0, 0.6, 0.4, 1.0], case.rounding),
    ])  # fmt: skip


@claim(
    method=METHOD, source="jia2023, Theorem on POPLER", level=Level.STATISTICAL, rooms=("scaled",),
    statement="with 3000 episodes a node, all estimates of 2 replicas are within 5.5 standard deviations of the 2-tons' "
    "values (error "
    "level 1e-5), and every reachable petal state is learnt",
    worked=lambda: [worked()[0]],
    breaks=[*BIASED[1::2], Setting("nothing_is_learnt", threshold=1.0)],
)  # fmt: skip
def popler_learns_all_members(case: Case, room: Room) -> Margin:
    trace = room.run("Popler", Online(case.model), steps=6, n=2, seed=1, policies=case.policies, batch=3000)
    made = room.make("Popler", policies=case.policies)
    state, truth = trace.raw[0], values(case)
    found = room.call(made.values, state)
    # a row of a reward process is a mean of n >= 1500 weights (half of a batch at least) of mean 1, variance at most K - 1;
    # it moves the value by at most the largest value. Three nodes at most lie on a path: 5.5 standard deviations
    tolerance = 5.5 * float(np.sqrt(3 * (4 - 1) / 1500)) * float(truth.max())
    reachable = [0, 2, 3, 4, 5]
    return Margin.worst([
        Margin.equal(found, np.tile(truth, (2, 1)), tolerance),
        Margin.at_most(1, trace.state["samples"][:, reachable].min(), 0.0),
    ])  # fmt: skip
