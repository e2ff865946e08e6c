"""Claims about spanning capacity and sunflowers: what the searches find is there, and nothing larger or smaller is."""

from __future__ import annotations

from itertools import product
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory._typing import Bool, Int
from polytheory.errors import require
from polytheory.policy_classes import PolicyClass, constant, everything, open_loop, ton_sunflower, tons
from polytheory.proofs_check.claims import Level, Line, Margin, claim
from polytheory.proofs_check.exploration.selection_claims import METHOD

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

# two groups of policies have to meet in one state and part again: with distinct states only 3 pairs are told apart
MERGING = [[[0, 0], [0, 0], [0, 0]], [[0, 0], [1, 0], [0, 0]], [[1, 1], [0, 0], [1, 1]], [[1, 1], [1, 0], [1, 1]]]


def tabulated() -> list[tuple[PolicyClass, list[int]]]:
    """Classes whose spanning capacity by layer is known by hand."""
    merging = np.array(MERGING)
    three = np.concatenate([merging, merging[..., 1:]], axis=2)  # a third state that acts as the second one
    return [
        (tons(2, 1, 2), [2, 2]), (tons(2, 2, 2), [2, 3]), (tons(3, 2, 2), [2, 3, 3]), (tons(3, 3, 2), [2, 3, 4]),
        (tons(3, 2, 2, most=2), [2, 4, 4]), (tons(3, 3, 2, most=2), [2, 4, 6]), (tons(3, 4, 2, most=2), [2, 4, 7]),
        (everything(3, 2, 2), [2, 4, 4]), (open_loop(3, 3, 2), [2, 4, 6]), (open_loop(3, 4, 2), [2, 4, 8]),
        (constant(3, 2, 2), [2, 2, 2]), (PolicyClass(merging, 2), [2, 3, 4]), (PolicyClass(three, 2), [2, 3, 4]),
    ]  # fmt: skip


INJECTIVE = Line(
    "groups_never_meet", module="spanning", old="for sigma in product(range(self.n), repeat=len(pairs)):",
    new="for sigma in (x for x in product(range(self.n), repeat=len(pairs)) if len(set(x)) == min(len(x), self.n)):",
)  # fmt: skip
ONE_TARGET = Line(
    "all_to_one_state", module="spanning", old="product(range(self.n), repeat", new="product(range(1), repeat"
)


@claim(
    method=METHOD, source="jia2023, Definition of spanning capacity", level=Level.CERTIFICATE, rooms=("reference",),
    statement="spanning capacity is the value known by hand (l-tons: sum_(i <= l) binom(h, i) where states suffice), "
    "between its "
    "cheap bounds, and the deterministic MDP that is returned reaches it, walked as a graph",
    worked=tabulated,
    breaks=[INJECTIVE, ONE_TARGET,
            Line("layer_before", module="spanning", old="search.target, search.memo = h, {}",
                 new="search.target, search.memo = max(h - 1, 0), {}")],
)  # fmt: skip
def spanning_capacity_is_certified(case: tuple[PolicyClass, list[int]], room: Room) -> Margin:
    policies, expected = case
    found = room.part("spanning_capacity")(policies.actions, policies.A)
    bounds = np.array(room.part("spanning_bounds")(policies.actions, policies.A))
    walked = [_reached_in_graph(room, policies, found, h) for h in range(policies.H)]
    return Margin.worst([
        Margin.equal(found.by_layer, expected, 0.0), Margin.equal(walked, expected, 0.0),
        Margin.at_most(bounds[:, 0], expected, 0.0), Margin.at_most(expected, bounds[:, 1], 0.0),
        Margin.equal(found.value, max(expected), 0.0),
    ])  # fmt: skip


def _reached_in_graph(room: Room, policies: PolicyClass, found: Any, layer: int) -> int:
    """Pairs of a layer that members reach: each member's subgraph, searched from the start."""
    import networkx as nx

    root = ("state", 0, int(found.start[layer]))
    graph, reached = room.part("reach_graph")(found.successor[layer], root[2], policies.actions, layer), set()
    for k in range(len(policies)):
        own = nx.DiGraph((u, v) for u, v, data in graph.edges(data=True) if k in data.get("policies", {k}))
        reached |= {x for x in nx.descendants(own, root) if x[:2] == ("pair", layer)}
    return len(reached)


@claim(
    method=METHOD, source="jia2023, l-tons", level=Level.CERTIFICATE, rooms=("reference",),
    statement="with 2^(h-1) states the l-tons have C_h = sum_(i <= l) binom(h, i), the open-loop class 2^h",
    worked=lambda: [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)],
    breaks=[ONE_TARGET],
)  # fmt: skip
def tons_grow_polynomially(setting: tuple[int, int], room: Room) -> Margin:
    l, H = setting
    n, capacity = 2 ** (H - 1), room.part("spanning_capacity")
    expected = [sum(comb(h, i) for i in range(l + 1)) for h in range(1, H + 1)]
    return Margin.worst([
        Margin.equal(capacity(tons(H, n, 2, most=l).actions, 2).by_layer, expected, 0.0),
        Margin.equal(capacity(open_loop(H, n, 2).actions, 2).by_layer, [2**h for h in range(1, H + 1)], 0.0),
    ])  # fmt: skip


@claim(
    method=METHOD, source="jia2023, Definition of spanning capacity", level=Level.PROPERTY, rooms=("reference",),
    statement="no deterministic MDP, all of them tried, tells more pairs apart than spanning capacity, and some tells as many",
    worked=lambda: [PolicyClass(np.array(MERGING)[:, :2], 2)], generated=lambda: _classes(),
    breaks=[ONE_TARGET,
            Line("stops_at_the_first", module="spanning", old="if value == ceiling:", new="if value:")],
)  # fmt: skip
def no_deterministic_world_beats_it(policies: PolicyClass, room: Room) -> Margin:
    N, H, n = policies.actions.shape
    best = np.zeros(H, dtype=np.int64)
    cells = [(h, s, a) for h in range(H - 1) for s in range(n) for a in range(policies.A)]
    for choice in product(range(n), *[range(n)] * len(cells)):
        after = dict(zip(cells, choice[1:], strict=True))
        pairs: list[set[tuple[int, int]]] = [set() for _ in range(H)]
        for k in range(N):
            s = choice[0]
            for h in range(H):
                a = int(policies.actions[k, h, s])
                pairs[h].add((s, a))
                s = after.get((h, s, a), 0)
        best = np.maximum(best, [len(p) for p in pairs])
    return Margin.equal(room.part("spanning_capacity")(policies.actions, policies.A).by_layer, best, 0.0)


def _classes() -> Any:
    """Strategy: classes of at most 5 policies on at most 2 states a layer."""
    st = require("hypothesis", "conform").strategies

    @st.composite
    def build(draw: Any) -> PolicyClass:
        H, n, N = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 5))
        return PolicyClass(
            np.reshape(draw(st.lists(st.integers(0, 1), min_size=N * H * n, max_size=N * H * n)), (N, H, n)), 2
        )

    return build()


def petal_by_sequences(
    policy: Int[np.ndarray, "H n"], petals: Bool[np.ndarray, "H n"], core: Int[np.ndarray, "K H n"]
) -> bool:
    """The definition: every sequence of states from every layer to every later one."""
    H, n = policy.shape
    for first in range(H):
        for last in range(first, H):
            for states in product(range(n), repeat=last - first + 1):
                steps = list(enumerate(states, start=first))
                excused = any(petals[h, s] for h, s in steps[1:])
                followed = any(all(c[h, s] == policy[h, s] for h, s in steps) for c in core)
                if not excused and not followed:
                    return False
    return True


@claim(
    method=METHOD, source="jia2023, Definition of petals and sunflowers", level=Level.PROPERTY, rooms=("reference",),
    statement="a policy is a petal when every sequence that is consistent with it is consistent with a core policy or "
    "enters the "
    "petal states after its start; the smallest petal sets are minimal",
    worked=lambda: [(p, q) for p in everything(2, 2, 2).actions[::3] for q in everything(2, 2, 2).actions[::5].astype(bool)],
    generated=None,
    breaks=[
        Line("start_excused", module="sunflower", old="alive = set(agree[first])",
             new="alive = {b for s, b in enumerate(agree[first]) if not petals[first, s]}"),
        Line("never_excused", module="sunflower", old="for s in range(n) if not petals[h, s]}", new="for s in range(n)}"),
        Line("any_step_agrees", module="sunflower", old="alive = {b & agree[h][s]", new="alive = {b | agree[h][s]"),
    ],
)  # fmt: skip
def petals_are_the_definition(case: tuple[np.ndarray, np.ndarray], room: Room) -> Margin:
    policy, petals = case
    is_petal, found = room.part("is_petal"), []
    for core in (room.part("layer_core")(2, 2, 2), np.zeros((1, 2, 2), dtype=np.int64)):
        found.append(is_petal(policy, petals, core) == petal_by_sequences(policy, petals, core))
        least = room.part("least_petals")(policy, core)
        if least is None:
            found.append(not petal_by_sequences(policy, np.ones_like(petals), core))
        else:
            found.append(petal_by_sequences(policy, least, core))
            smaller = (np.reshape(x, (2, 2)).astype(bool) for x in product((0, 1), repeat=4))
            found += [not petal_by_sequences(policy, x, core) for x in smaller if x.sum() < least.sum()]
    return Margin.proved(all(found))


@claim(
    method=METHOD, source="jia2023, l-tons", level=Level.CERTIFICATE, rooms=("reference",),
    statement="exactly-l-tons on 3 layers of 2 states need D = 0, 1, 2, 3, 4, 4 petal states for l = 1..6 with the layer "
    "core; with "
    "{all 0} alone no petal set will do; the active states are always enough",
    worked=lambda: list(zip(range(1, 7), (0, 1, 2, 3, 4, 4), strict=True)),
    breaks=[Line("core_without_ones", module="sunflower", old="core[i + 1, i // (A - 1)] = 1 + i % (A - 1)",
                 new="core[i + 1, 0] = 1")],
)  # fmt: skip
def tons_are_sunflowers(setting: tuple[int, int], room: Room) -> Margin:
    l, D = setting
    policies = tons(3, 2, 2, most=l, exactly=True)
    core, active = room.part("layer_core")(3, 2, 2), ton_sunflower(policies)
    return Margin.proved(
        room.part("sunflower_number")(policies.actions, core) == D
        and room.part("sunflower_number")(policies.actions, core[:1]) is None
        and room.part("is_sunflower")(policies.actions, active.petals, core)
    )
