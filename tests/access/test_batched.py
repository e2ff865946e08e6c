"""The batched access draws what n tabular accesses draw, whichever way the policy is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from polytheory.access import Key, Online, Requests
from polytheory.errors import SettingError
from polytheory.models import RewardAtoms, TabularMDP
from polytheory.policies import Memoryless, TabularPolicy
from polytheory.streams import row_ids, uniforms


class ByTable(Memoryless):
    """One table per replica, offered as a table."""

    def __init__(self, table):
        self.pi = torch.as_tensor(table)

    def table(self):
        return self.pi

    def probs(self, m, h, s):
        replica = torch.arange(len(s)) // (len(s) // len(self.pi))
        return self.pi[replica, s] if self.pi.ndim == 3 else self.pi[replica, h, s]


class ByCall(ByTable):
    """The same, offered by call only."""

    table = None


def random_model(rng, S, A, *, stop, staged, law):
    H = 7 if staged else None
    lead = (H,) if staged else ()
    P = rng.dirichlet(np.full(S, 0.4), size=(*lead, S, A))
    r = rng.normal(size=(*lead, S, A))
    terminal = np.zeros(S, dtype=bool)
    if stop:
        terminal[-1] = True
        P[..., -1, :, :] = np.eye(S)[-1]
        r[..., -1, :] = 0
    atoms = None
    if law:
        values = np.array([-1.0, 0.0, 2.0])
        probs = rng.dirichlet(np.ones(3), size=(S, A))
        probs[terminal] = (0, 1, 0)
        r, atoms = probs @ values, RewardAtoms(values, probs)
    return TabularMDP(P, r, rng.dirichlet(np.ones(S)), horizon=H, gamma=0.9, terminal=terminal, reward_law=atoms)


FIELDS = ("states", "actions", "rewards", "mask", "final_states", "finished")


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6), S=st.integers(1, 5), A=st.integers(1, 4), stop=st.booleans(), staged=st.booleans(),
    law=st.booleans(), truncation=st.integers(1, 40), batch=st.integers(1, 3),
)  # fmt: skip
def test_rows_are_those_of_the_tabular_access(seed, S, A, stop, staged, law, truncation, batch):
    law = law and not staged  # random rewards are stationary
    rng = np.random.default_rng(seed)
    access, n = Online(random_model(rng, S, A, stop=stop, staged=staged, law=law)), 4
    tables = rng.dirichlet(np.full(A, 0.3), size=(n, 7, S) if staged else (n, S))
    tables[0] = np.eye(A)[0]  # a deterministic policy: probabilities 0 and 1
    key = Key(seed, "test", 3)
    ids = np.concatenate([row_ids(i, np.arange(batch)) for i in range(n)])
    for offered in (ByTable, ByCall):
        batched = access.replicate(n)
        rows = batched.rollouts(offered(tables), Requests(torch.as_tensor(ids), truncation), key)
        for i in range(n):
            alone = access.fresh()
            mine = alone.rollouts(TabularPolicy(tables[i]), Requests(row_ids(i, np.arange(batch)), truncation), key)
            own = slice(i * batch, (i + 1) * batch)
            for name in FIELDS:
                assert_array_equal(getattr(rows, name)[own].numpy(), getattr(mine, name), err_msg=name)
            # np.log and torch.log may differ in the last place
            np.testing.assert_allclose(rows.log_probs_sampler[own].numpy(), mine.log_probs_sampler, rtol=4e-16, atol=0)
            assert batched.meter.transitions[i] == alone.meter.total("transitions")
            assert batched.meter.episodes[i] == batch


def test_numbers_drawn_in_blocks_are_the_numbers_drawn_at_once():
    ids = row_ids(3, np.arange(5))
    whole = uniforms(7, "blocks", 2, ids, 20)
    parts = np.concatenate([uniforms(7, "blocks", 2, ids, k, first=f) for f, k in ((0, 1), (1, 12), (13, 7))], axis=1)
    assert_array_equal(parts, whole)


def test_rows_must_be_shared_evenly():
    access = Online(random_model(np.random.default_rng(0), 2, 2, stop=False, staged=False, law=False)).replicate(2)
    with pytest.raises(SettingError, match="cannot be shared by 2 replicas"):
        access.rollouts(ByTable(np.full((2, 2, 2), 0.5)), Requests(torch.arange(3), 4), Key(0, "x", 0))
    with pytest.raises(SettingError, match="cannot be shared by 4 policies"):
        access.rollouts(ByTable(np.full((4, 2, 2), 0.5)), Requests(torch.arange(2), 4), Key(0, "x", 0))
