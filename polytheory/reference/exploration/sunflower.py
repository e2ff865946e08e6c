"""The sunflower property: every policy of a class follows a few core policies, except in a few states of its own.

A policy is an S-petal on a core when every sequence of states and actions that is consistent with it, whatever the states,
is consistent with some core policy or enters S after its first state [jia2023, Definitions 2 and 3]. The property speaks of
the class alone and is what makes online learning possible where spanning capacity is not enough.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from polytheory._typing import Bool, Int
from polytheory.errors import SettingError

MOST = 5_000  # petal sets that are tried, for a policy or a class


def agreements(policy: Int[np.ndarray, "H n"], core: Int[np.ndarray, "K H n"]) -> list[list[int]]:
    """For each layer and state, the core policies that act as the policy does, as bits of an integer."""
    same = core == policy[None]
    bits = 1 << np.arange(len(core), dtype=object)
    return [[int(sum(bits[same[:, h, s]])) for s in range(policy.shape[1])] for h in range(policy.shape[0])]


def is_petal(policy: Int[np.ndarray, "H n"], petals: Bool[np.ndarray, "H n"], core: Int[np.ndarray, "K H n"]) -> bool:
    """Whether the policy is a petal on the core with these petal states.

    From every first state, follow the set of core policies that still agree; a sequence that enters the petal states after
    its start is excused. False as soon as some set is empty.
    """
    agree = agreements(policy, core)
    H, n = policy.shape
    for first in range(H):
        alive = set(agree[first])
        if 0 in alive:
            return False
        for h in range(first + 1, H):
            alive = {b & agree[h][s] for b in alive for s in range(n) if not petals[h, s]}
            if 0 in alive:
                return False
    return True


def is_sunflower(
    actions: Int[np.ndarray, "N H n"], petals: Bool[np.ndarray, "N H n"], core: Int[np.ndarray, "K H n"]
) -> bool:
    """Whether every policy is a petal with its own petal states."""
    return all(is_petal(policy, own, core) for policy, own in zip(actions, petals, strict=True))


def least_petals(
    policy: Int[np.ndarray, "H n"], core: Int[np.ndarray, "K H n"], *, tries: int = MOST
) -> Bool[np.ndarray, "H n"] | None:
    """A smallest set of petal states for a policy, by size; None when no set will do (the core misses a single action).

    Raises `SettingError` when more than ``tries`` sets would have to be tried.
    """
    return _least_petals(policy, core, tries)[0]


def _least_petals(policy: np.ndarray, core: np.ndarray, tries: int) -> tuple[np.ndarray | None, int]:
    """The set, and how many were tried."""
    H, n = policy.shape
    cells, tried = H * n, 0
    if not is_petal(policy, np.ones((H, n), dtype=bool), core):  # a larger set excuses more
        return None, 1
    for size in range(cells + 1):
        for chosen in combinations(range(cells), size):
            tried += 1
            if tried > tries:
                raise SettingError(
                    f"{tries} petal sets are not enough to find the smallest; try a smaller class or core"
                )
            petals = np.isin(np.arange(cells), chosen).reshape(H, n)
            if is_petal(policy, petals, core):
                return petals, tried
    return None, tried


def layer_core(H: int, n: int, A: int) -> Int[np.ndarray, "K H n"]:
    """The core {all 0} and {a on one layer, 0 elsewhere: a = 1..A-1}: K = H (A - 1) + 1."""
    core = np.zeros((H * (A - 1) + 1, H, n), dtype=np.int64)
    for i in range(H * (A - 1)):
        core[i + 1, i // (A - 1)] = 1 + i % (A - 1)
    return core


def sunflower_number(actions: Int[np.ndarray, "N H n"], core: Int[np.ndarray, "K H n"]) -> int | None:
    """``D`` of a class on this core, the largest of its members' smallest petal sets; None when it is no sunflower.

    Raises `SettingError` when more than 5000 sets would have to be tried for all members together.
    """
    sizes, left = [], MOST
    for policy in actions:
        petals, tried = _least_petals(policy, core, left)
        left -= tried
        if petals is None:
            return None
        sizes.append(int(petals.sum()))
    return max(sizes)
