"""Policies that offline data come from, and episodes of them."""

from __future__ import annotations

import numpy as np

from polytheory.access import Key, Online, Requests
from polytheory.errors import SettingError, UnknownNameError
from polytheory.models import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.reference.exploration.regret import greedy_policy, stage_q_values
from polytheory.streams import row_ids
from polytheory.trajectories import Trajectories

SHARES = {"uniform": 0.0, "half-optimal": 0.5, "optimal": 1.0}  # of the optimal policy; the rest is uniform


def behaviour_policy(model: TabularMDP, behaviour: str) -> TabularPolicy:
    """At every step optimal with the behaviour's share, else uniform. Raises `UnknownNameError`, and `SettingError`
    for a model without a horizon."""
    if behaviour not in SHARES:
        raise UnknownNameError("behaviour", behaviour, SHARES)
    if model.horizon is None:
        raise SettingError(f"{model.name} has no horizon; offline episodes are made of models that have one")
    share = SHARES[behaviour]
    return TabularPolicy(share * greedy_policy(stage_q_values(model)) + (1 - share) / model.A)


def behaviour_episodes(model: TabularMDP, behaviour: str, episodes: int, *, seed: int = 0) -> Trajectories:
    """``episodes`` >= 1 whole episodes of a behaviour, from a stream of their own; arrays [episodes, H]."""
    if episodes < 1:
        raise SettingError(f"{episodes} offline episodes; at least 1 is needed")
    policy = behaviour_policy(model, behaviour)
    requests = Requests(row_ids(0, np.arange(episodes)), model.horizon or 1)
    return Online(model).rollouts(policy, requests, Key(seed, "offline", 0))
