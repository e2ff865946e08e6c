"""n replicas in torch are n reference runs, for every method of the folder, tables and features."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory import models
from polytheory.access import Online
from polytheory.models.random_models import random_linear
from polytheory.reference.exploration import optimistic_actor_critic as reference
from polytheory.scaled.exploration import optimistic_actor_critic as scaled

METHODS = (
    ("Nora", {}), ("Nora", {"constants": "theorem"}), ("Nora", {"bonus_scale": 0.0}), ("Douhua", {}),
    ("LsviUcb", {"rare": True}), ("LsviUcb", {}), ("Ucbvi", {}), ("Ucbvi", {"bonus": "bernstein"}),
    ("EpsilonGreedyActorCritic", {}),
)  # fmt: skip
T, REPLICAS, FIRST = 25, 2, 3
# an episode adds some hundred roundings of 1e-16, relative to sums of at most T values of size at most H; a different draw
# or switch would show as 1e-2 or more
TOLERANCE = 1e-12


@pytest.mark.parametrize(("name", "settings"), METHODS)
@pytest.mark.parametrize("world", ["combination-lock", "deep-sea", "linear"])
def test_replicas_are_reference_runs(name, settings, world):
    phi = None
    if world == "linear":
        made = random_linear(S=4, A=3, d=3, horizon=3)
        model, phi = made.to_tabular(), made.phi
    else:
        model = models.make(world, **({"H": 4} if world == "combination-lock" else {"depth": 4}))
    settings = {**settings, "episodes": T} | ({} if name == "Ucbvi" else {"phi": phi})
    access = Online(model, known_rewards=world == "deep-sea")
    batched = access.replicate(REPLICAS)
    fast, slow = getattr(scaled, name)(**settings), getattr(reference, name)(**settings)
    state, infos = fast.init(batched, 1, FIRST), []
    for _ in range(T):
        state, info = fast.step(state, batched)
        infos.append(info)
    for i in range(REPLICAS):
        alone = access.fresh()
        mine = slow.init(alone, 1, FIRST + i)
        for t in range(T):
            mine, info = slow.step(mine, alone)
            for key in info:
                assert_allclose(infos[t][key][i], info[key], rtol=TOLERANCE, atol=TOLERANCE, err_msg=key)
        for field in vars(mine):
            a, b = np.asarray(getattr(state, field)), np.asarray(getattr(mine, field))
            assert_allclose(a[i] if a.ndim else a, b, rtol=TOLERANCE, atol=TOLERANCE, err_msg=field)
    assert int(state.n.sum()) > 0
