"""Grants, meters and families of worlds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from polytheory.access import NAMED, Family, GenerativeModel, Grant, Key, Meter, Online, Requests, check_grants
from polytheory.errors import AccessError, SettingError
from polytheory.models import make
from polytheory.policies import TabularPolicy
from polytheory.streams import row_ids

POLICY = TabularPolicy.uniform(2, 2)
KEY = Key(0, "test", 0)


def test_refusals_name_what_is_missing_and_who_grants_it():
    check_grants((Grant.EPISODE,), Online.grants, "this method", "Online")
    with pytest.raises(AccessError) as caught:
        check_grants((Grant.EPISODE, Grant.SAMPLE), Online.grants, "value-iteration", "Online")
    assert str(caught.value) == (
        "value-iteration requires SAMPLE (sample a transition from any state and action), which Online does not grant; "
        "use one of: GenerativeModel, KnownModel"
    )
    with pytest.raises(AccessError, match="use one of: none"):
        check_grants((Grant.DATA, Grant.MODEL), Online.grants, "x", "Online")


def test_the_lattice_is_ordered_as_its_names_say():
    grants = {name: cls.grants for name, cls in NAMED.items()}
    for weaker, stronger in (
        ("Online", "MuReset"), ("Online", "LocalSimulator"), ("MuReset", "HybridResets"), ("LocalSimulator", "HybridResets"),
        ("LocalSimulator", "GenerativeModel"), ("GenerativeModel", "KnownModel"), ("HybridResets", "KnownModel"),
    ):  # fmt: skip
        assert grants[weaker] < grants[stronger]
    assert not grants["OfflineData"] & grants["KnownModel"]


def test_meter():
    meter = Meter(3)
    meter.add("episodes", 2)
    meter.add("transitions", np.array([1, 0, 5]))
    assert meter.episodes.dtype == np.int64
    assert meter.episodes.tolist() == [2, 2, 2]
    assert meter.total("transitions") == 6
    saved = meter.state_dict()
    meter.add("transitions", 1)
    assert saved["transitions"].tolist() == [1, 0, 5]  # a copy
    meter.load_state_dict(saved)
    meter.add("resets", 1)
    assert saved["resets"].tolist() == [0, 0, 0]
    assert meter.transitions.tolist() == [1, 0, 5]
    with pytest.raises(AttributeError):
        _ = meter.steps
    with pytest.raises(KeyError):
        meter.add("steps", 1)


def test_a_family_shares_one_meter_and_the_grants_of_all():
    worlds = [GenerativeModel(make("two-state")), Online(make("two-state-misspecified"))]
    family = Family(worlds)
    assert family.grants == {Grant.EPISODE}
    assert len(family) == 2
    assert list(family) == worlds
    for world in family:
        world.rollouts(POLICY, Requests(row_ids(0, np.arange(3)), 2), KEY)
    assert family.meter.total("episodes") == 6
    assert family[0].meter is family[1].meter is family.meter
    saved = family.state_dict()
    other = Family([w.fresh() for w in worlds])
    other.load_state_dict(saved)
    assert other.meter.total("transitions") == 12
    assert_array_equal(other[0].state_dict()["visited"], [True, True])


def test_families_that_do_not_fit_are_refused():
    with pytest.raises(SettingError, match="at least one member"):
        Family([])
    access = Online(make("two-state"))
    with pytest.raises(SettingError, match="same number of replicas"):
        Family([access.replicate(2), access.replicate(3)])
