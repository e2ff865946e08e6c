"""Each named access refuses what it does not grant, learners say what they need, and every question is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polytheory.access import GenerativeModel, HybridResets, Key, LocalSimulator, MuReset, Online, Requests
from polytheory.access.defaults import default_access
from polytheory.errors import AccessError, UnknownNameError
from polytheory.models import make
from polytheory.models.layered import layers_of
from polytheory.policies import TabularPolicy
from polytheory.policy_classes import tons
from polytheory.reference.exploration.agnostic_policy_learning import (
    Cpi,
    ImportanceSampling,
    Plhr,
    Popler,
    Psdp,
    TrajectoryTree,
)
from polytheory.run import run
from polytheory.streams import row_ids

MODEL = make("layered-two-state")
IDS = row_ids(0, np.arange(40))
GRANTED = {  # what each access answers
    Online: {"episode"},
    LocalSimulator: {"episode", "visited"},
    MuReset: {"episode", "reset", "drawn"},
    HybridResets: {"episode", "reset", "drawn", "visited"},
    GenerativeModel: {"episode", "sample", "visited", "drawn", "anywhere"},
}


def questions(access, granted, batched: bool):
    """Every question by name, each on a fresh access of that kind."""
    policy = TabularPolicy.uniform(MODEL.S, MODEL.A)
    if batched:
        policy = _Uniform()
    key = Key(0, "test", 0)

    def episode():
        return access.rollouts(policy, Requests(IDS, 3), key)

    def starting(states):
        return access.rollouts(policy, Requests(IDS, 1, states), key)

    def visited():
        seen = np.asarray(episode().states)
        return starting(np.full(40, seen[0, 1]))

    def drawn():
        """A state of the last layer, which no episode has been to: only a reset can have drawn it."""
        return starting(np.asarray(access.reset_starts(key, IDS, h=2)) if "reset" in granted else np.full(40, 4))

    def sample():
        s, a = np.full(40, 5), np.zeros(40, dtype=np.int64)
        return access.sample(_kind(s, batched), _kind(a, batched), key, row_id=IDS)

    return {
        "episode": episode, "visited": visited, "reset": lambda: access.reset_starts(key, IDS, h=1), "drawn": drawn,
        "sample": sample, "anywhere": lambda: starting(np.full(40, 5)),
    }  # fmt: skip


class _Uniform:
    def start(self, n):
        return None

    def probs(self, m, h, s):
        return torch.full((len(s), 2), 0.5, dtype=torch.float64)

    def update(self, *_):
        return None


def _kind(x, batched):
    return torch.as_tensor(x) if batched else x


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("cls", list(GRANTED))
def test_an_access_answers_what_it_grants_and_nothing_else(cls, batched):
    for name in ("episode", "visited", "reset", "drawn", "sample", "anywhere"):
        access = default_access(cls.__name__, MODEL)
        access = access.replicate(2) if batched else access
        ask = questions(access, GRANTED[cls], batched)[name]
        if name in GRANTED[cls]:
            ask()
            continue
        with pytest.raises(AccessError, match=cls.__name__):
            ask()


def test_each_learner_says_what_it_needs():
    policies = tons(*layers_of(MODEL))
    needs = {
        TrajectoryTree: GenerativeModel, ImportanceSampling: Online, Popler: Online, Psdp: MuReset, Cpi: MuReset,
        Plhr: HybridResets,
    }  # fmt: skip
    for cls, smallest in needs.items():
        assert cls.requires == smallest.grants - (GenerativeModel.grants - smallest.grants) - _more(cls)
        for other in GRANTED:
            if not cls.requires <= other.grants:
                with pytest.raises(AccessError, match=cls.__name__):
                    run(cls(policies), default_access(other.__name__, MODEL), steps=1, progress=False)


def _more(cls):
    """A tree asks for transitions and first states; it never resets."""
    from polytheory.access import Grant

    return {Grant.LOCAL_RESET} if cls is TrajectoryTree else set()


def test_every_question_is_counted_for_the_replica_that_asked():
    access = default_access("GenerativeModel", MODEL).replicate(2)
    s = torch.tensor([0, 1, 1])
    access.sample(s, torch.zeros(3, dtype=torch.int64), Key(0, "test", 0), row_id=IDS[:3], replica=[0, 1, 1])
    access.initial_states(Key(0, "test", 0), IDS[:4])
    assert access.meter.transitions.tolist() == [1, 2]
    assert access.meter.episodes.tolist() == [2, 2]
    uneven = Requests(IDS[:3], 2, replica=np.array([0, 0, 1]))
    access.rollouts(_Uniform(), uneven, Key(0, "test", 1))
    assert access.meter.episodes.tolist() == [4, 3]
    assert access.meter.transitions.tolist() == [1 + 4, 2 + 2]


def test_a_reset_of_one_replica_does_not_open_a_state_to_another():
    access = default_access("MuReset", MODEL).replicate(2)
    drawn = access.reset_starts(Key(0, "test", 0), IDS[:8], h=2, replica=[0] * 8)
    access.rollouts(_Uniform(), Requests(IDS[:1], 1, drawn[:1], replica=np.array([0])), Key(0, "test", 1))
    with pytest.raises(AccessError, match="replica 1 never drew state"):
        access.rollouts(_Uniform(), Requests(IDS[:1], 1, drawn[:1], replica=np.array([1])), Key(0, "test", 1))


def test_the_batched_answers_are_the_tabular_ones():
    one, many = default_access("GenerativeModel", MODEL), default_access("GenerativeModel", MODEL).replicate(1)
    s, a, key = np.arange(6).repeat(6)[:36], np.arange(36) % 2, Key(3, "test", 4)
    r, s2 = one.sample(s, a, key, row_id=IDS[:36])
    r_torch, s2_torch = many.sample(torch.tensor(s), torch.tensor(a), key, row_id=IDS[:36])
    np.testing.assert_array_equal(r, r_torch.numpy())
    np.testing.assert_array_equal(s2, s2_torch.numpy())
    np.testing.assert_array_equal(one.initial_states(key, IDS), many.initial_states(key, IDS).numpy())
    mine, theirs = (default_access("MuReset", MODEL) for _ in range(2))
    np.testing.assert_array_equal(
        mine.reset_starts(key, IDS, h=1), theirs.replicate(1).reset_starts(key, IDS, h=1).numpy()
    )


def test_unknown_access_names_the_nearest():
    with pytest.raises(UnknownNameError, match="Online"):
        default_access("Onlin", MODEL)
