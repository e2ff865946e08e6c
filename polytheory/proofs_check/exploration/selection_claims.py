"""Claims about trajectory trees and importance weights: exact means, exact cost, exact variance, and the selection rule."""

from __future__ import annotations

from itertools import product
from math import comb, log
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.access import GenerativeModel
from polytheory.policy_classes import open_loop, tons
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.exploration.agnostic_instances import Case, cases, worked
from polytheory.proofs_check.exploration.agnostic_oracles import deterministic_worlds, episodes, one_hot, values

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

METHOD = "agnostic-policy-learning"
MODULE = "selection"

LAST_REWARD = [
    Line("last_reward_only", room="reference", module=MODULE, old="returns += reward[rows, pair]",
         new="returns = reward[rows, pair]"),
    Line("last_reward_only_scaled", room="scaled", module=MODULE, old="returns += reward.gather",
         new="returns = reward.gather"),
]  # fmt: skip
STUCK = [
    Line("never_moves", room="reference", module=MODULE, old="s = after[rows, pair]",
         new="s = np.where(after[rows, pair] < n, s, n)"),
    Line("never_moves_scaled", room="scaled", module=MODULE, old="s = after.gather(1, pair)",
         new="s = torch.where(after.gather(1, pair) < n, s, n)"),
]  # fmt: skip


def walked(case: Case, room: Room) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, next states, returns and calls of every deterministic MDP of the model, each walked as one tree."""
    prob, after, roots = deterministic_worlds(case)
    tables, r = room.inward(after), room.inward(np.asarray(case.r))

    def ask(h: int, tree: Any, s: Any, a: Any) -> tuple[Any, Any]:
        return r[h, s, a], tables[tree, h, s, a]

    returns, calls = room.parts.tree_returns(ask, roots, case.actions, case.sizes.A)
    return prob, after, returns, calls


@claim(
    method=METHOD, source="kearns1999; jia2023", level=Level.PROPERTY,
    statement="the mean return of every member over all deterministic MDPs that a tree can be is its value",
    worked=worked, generated=cases,
    breaks=[*LAST_REWARD, *STUCK],
)  # fmt: skip
def a_tree_is_unbiased(case: Case, room: Room) -> Margin:
    prob, _, returns, _ = walked(case, room)
    return Margin.equal(prob @ returns, values(case), case.rounding)


@claim(
    method=METHOD, source="jia2023, Theorem on generative models", level=Level.PROPERTY,
    statement="a tree asks for each pair that some member reaches in it, once; never more at a layer than spanning capacity",
    worked=lambda: worked()[:3], generated=lambda: cases(most=4),
    breaks=[
        Wrap("asks_for_all_pairs", part="needed_pairs", by=lambda f: lambda pair, pairs: f(_every(pair, pairs), pairs)),
        Line("counts_members", room="reference", module=MODULE, old="calls[:, h] = np.bincount(tree, minlength=T)",
             new="calls[:, h] = (pair < n * n_actions).sum(1)"),
        Line("forgets_a_call_scaled", room="scaled", module=MODULE, old="calls.append(torch.bincount(tree, minlength=T))",
             new="calls.append(torch.bincount(tree, minlength=T) - 1)"),
    ],
)  # fmt: skip
def a_tree_costs_what_members_reach(case: Case, room: Room) -> Margin:
    from polytheory.reference.exploration.spanning import spanning_capacity

    A = case.sizes.A
    _, after, _, calls = walked(case, room)
    roots = deterministic_worlds(case)[2]
    reached = np.array([[len(pairs) for pairs in _reached(case, a, s)] for a, s in zip(after, roots, strict=True)])
    most = spanning_capacity(case.actions, A).by_layer
    return Margin.worst([Margin.equal(calls, reached, 0.0), Margin.at_most(calls.max(axis=0), most, 0.0)])


def _reached(case: Case, after: np.ndarray, root: Any) -> list[set[tuple[int, int]]]:
    """Pairs that members reach at each layer, one member after the other."""
    found: list[set[tuple[int, int]]] = [set() for _ in range(case.sizes.H)]
    for policy in case.actions:
        s = int(root)
        for h in range(case.sizes.H):
            a = int(policy[h, s])
            found[h].add((s, a))
            s = int(after[h, s, a])
            if s == case.sizes.n:
                break
    return found


def _every(pair: Any, pairs: int) -> Any:
    """All pairs in every tree, as an array of the kind of ``pair``."""
    if isinstance(pair, np.ndarray):
        return np.tile(np.arange(pairs), (len(pair), 1))
    return pair.new_tensor(range(pairs)).repeat(len(pair), 1)


def binary_tree(horizon: int, policies: Any) -> Case:
    """A deterministic model that never merges: action a of state i leads to state 2 i + a."""
    n = 2 ** (horizon - 1)
    P = np.zeros((horizon, n, 2, n))
    for i, a in product(range(n // 2), range(2)):
        P[:-1, i, a, 2 * i + a] = 1.0
    r, mu = np.zeros((horizon, n, 2)), np.full((horizon, n), 1 / n)
    return Case(P, r, np.eye(n)[0], policies(horizon, n), mu, np.full((horizon, n, 2), 0.5))


@claim(
    method=METHOD, source="jia2023, spanning capacity of l-tons and of the full tree", level=Level.CERTIFICATE,
    statement="where nothing merges, a tree costs 2^(H+1) - 2 transitions for open-loop policies (slope 1 in log2 against "
    "H) and "
    "sum_h sum_(i <= l) binom(h, i) for l-tons (slope l + 1 or less in log against log H)",
    worked=lambda: [2, 3, 4, 5],
    breaks=[*STUCK, Wrap("asks_for_all_pairs", part="needed_pairs",
                         by=lambda f: lambda pair, pairs: f(_every(pair, pairs), pairs))],
)  # fmt: skip
def cost_follows_spanning_capacity(horizon: int, room: Room) -> Margin:
    def cost(policies: Any) -> float:
        return float(walked(binary_tree(horizon, policies), room)[3].sum())

    # h pairs are met before layer h (counted from 1) is left: subsets of at most l of them tell l-tons apart
    expected = {l: sum(comb(h, i) for h in range(1, horizon + 1) for i in range(l + 1)) for l in (1, 2)}
    found = [Margin.equal(cost(lambda H, n: open_loop(H, n, 2)), 2 ** (horizon + 1) - 2, 0.0)]
    for l in (1, 2):
        if horizon < 5 or l == 1:
            found.append(Margin.equal(cost(lambda H, n, l=l: tons(H, n, 2, most=l)), expected[l], 0.0))
    rise = cost(lambda H, n: tons(H, n, 2)) / (1 * 2)  # from horizon 1, where it is 2
    found.append(Margin(2 * log(horizon) - log(rise), 8e-16 * log(rise + 2)))
    return Margin.worst(found)


@claim(
    method=METHOD, source="elementary; the baseline of jia2023", level=Level.PROPERTY,
    statement="importance weighting is unbiased, and its second moment is E[A^length R^2] under the member",
    worked=worked, generated=cases,
    breaks=[
        Line("one_action_too_many", room="reference", module=MODULE, old="** mask.sum(axis=1)",
             new="** (mask.sum(axis=1) + 1)"),
        Line("one_action_too_many_scaled", room="scaled", module=MODULE, old="** mask.sum(1)", new="** (mask.sum(1) + 1)"),
        Line("first_action_only", room="reference", module=MODULE, old="for t in range(states.shape[1]):",
             new="for t in (0,):"),
        Line("first_action_only_scaled", room="scaled", module=MODULE, old="for t in range(states.shape[1]):",
             new="for t in (0,):"),
    ],
)  # fmt: skip
def importance_weights_have_these_moments(case: Case, room: Room) -> Margin:
    H, n, A = case.sizes
    e = episodes(case, np.full((H, n, A), 1 / A))
    found = room.parts.importance_estimates(e.states, e.actions, e.mask, e.returns, case.policies.by_state, A)
    second = []
    for policy in case.actions:
        own = episodes(case, one_hot(policy, A))
        second.append(own.prob @ (float(A) ** own.mask.sum(axis=1) * own.returns**2))
    scale = float(A) ** H
    return Margin.worst([
        Margin.equal(e.prob @ found, values(case), case.rounding * scale),
        Margin.equal(e.prob @ found**2, second, case.rounding * scale**2),
    ])  # fmt: skip


def coin() -> Case:
    """Two layers, and a return of 1 with probability 1/2 whatever one does: no returns in [0, 1] vary more."""
    P, r = np.zeros((2, 2, 2, 2)), np.zeros((2, 2, 2))
    P[0], r[1, 1] = 0.5, 1.0
    return Case(P, r, np.array([1.0, 0.0]), tons(2, 2, 2, most=0), np.full((2, 2), 0.5), np.full((2, 2, 2), 0.5))


@claim(
    method=METHOD, source="hoeffding1963; jia2023", level=Level.STATISTICAL, rooms=("scaled",),
    statement="in at least 1 - delta of 400 replicas all means are within the radius of their values, and the best estimate "
    "loses at most twice that (delta = 0.5; error level 1e-6)",
    worked=lambda: [coin()],
    breaks=[Wrap("radius_ten_times_too_small", part="hoeffding_radius", by=lambda f: lambda *a: 0.1 * f(*a)), *STUCK[1:]],
)  # fmt: skip
def the_radius_covers(case: Case, room: Room) -> Margin:
    n, samples, delta = 400, 64, 0.5
    made = {"policies": case.policies, "batch": samples, "delta": delta}
    trace = room.run("TrajectoryTree", GenerativeModel(case.model), steps=1, n=n, seed=3, **made)
    truth, radius = values(case), trace.history["radius"][0]
    means = trace.state["totals"] / samples
    inside = (np.abs(means - truth) <= radius[:, None]).all(axis=1)
    regret = truth.max() - truth[means.argmax(axis=1)]
    covered = (inside & (regret <= 2 * radius)).mean()
    # Hoeffding: the share of 400 replicas falls below its mean by more than this with probability 1e-6
    return Margin(covered - (1 - delta), float(np.sqrt(log(1e6) / (2 * n))))


@claim(
    method=METHOD, source="hoeffding1963", level=Level.PROPERTY, rooms=("reference",),
    statement="trees_needed is the smallest number of trees whose radius is at most eps / 2",
    worked=lambda: [(0.1, 7, 0.05), (0.5, 1, 0.5), (0.03, 100_000, 0.01)],
    breaks=[Line("eps_not_halved", module=MODULE, old="2 / eps**2 * np.log", new="0.5 / eps**2 * np.log"),
            Line("no_union_bound", module=MODULE, old="eps**2 * np.log(2 * members / delta)",
                 new="eps**2 * np.log(2 / delta)")],
)  # fmt: skip
def trees_needed_is_exact(setting: tuple[float, int, float], room: Room) -> Margin:
    eps, members, delta = setting
    n = room.part("trees_needed")(eps, members, delta)
    radius = [float(np.sqrt(log(2 * members / delta) / (2 * k))) for k in (n, max(n - 1, 1))]
    slack = min(eps / 2 - radius[0], radius[1] - eps / 2 if n > 1 else 0.0)
    return Margin(slack, 1e-15)
