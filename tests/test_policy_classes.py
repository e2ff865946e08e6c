"""Policy classes as data."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from polytheory.errors import PolicyError, SettingError, UnknownNameError
from polytheory.policy_classes import (
    PolicyClass,
    Sunflower,
    class_names,
    everything,
    linear_thresholds,
    make_class,
    open_loop,
    ton_sunflower,
    tons,
)


def test_sizes_are_counted_by_hand():
    assert len(everything(2, 2, 3)) == 3**4
    assert len(open_loop(4, 2, 2)) == 16
    assert len(tons(3, 4, 2, most=2)) == 1 + 12 + comb(12, 2)
    assert len(tons(3, 4, 2, most=3, exactly=True)) == comb(12, 3)
    for name in class_names():
        made = make_class(name, (2, 2, 2))
        assert len(np.unique(made.actions.reshape(len(made), -1), axis=0)) == len(made) or name == "random"


def test_a_member_is_a_policy_of_the_layered_model():
    made = tons(2, 2, 2)
    assert made.by_state.shape == (5, 5)
    assert made.policy(3).table.argmax(axis=1).tolist() == [0, 0, 1, 0, 0]


def test_thresholds_on_a_line_are_the_n_plus_one_cuts_both_ways():
    found = {tuple(x) for x in linear_thresholds(1, 4, 2).actions[:, 0]}
    cuts = {tuple(int(i >= k) for i in range(4)) for k in range(5)}
    assert found == cuts | {tuple(1 - x for x in cut) for cut in cuts}


def test_thresholds_in_the_plane_separate_by_lines():
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    found = {tuple(x) for x in linear_thresholds(1, 4, 2, features=corners, directions=32).actions[:, 0]}
    assert len(found) == 14  # all dichotomies of a square but the two diagonals
    assert (0, 1, 1, 0) not in found


def test_the_sunflower_of_tons():
    sunflower = ton_sunflower(tons(3, 2, 2, most=2))
    assert (sunflower.K, sunflower.D) == (4, 2)


def test_bad_classes_are_refused():
    with pytest.raises(PolicyError, match="N >= 1"):
        PolicyClass(np.zeros((0, 2, 2), dtype=int), 2)
    with pytest.raises(PolicyError, match="float"):
        PolicyClass(np.zeros((1, 2, 2)), 2)
    with pytest.raises(PolicyError, match=r"\[0, 2\); got 0 to 2"):
        PolicyClass(np.array([[[0, 2]]]), 2)
    with pytest.raises(PolicyError, match="the model has"):
        tons(2, 2, 2).fits((3, 2, 2))
    with pytest.raises(PolicyError, match="core"):
        Sunflower(np.zeros((0, 2, 2), dtype=int), np.zeros((1, 2, 2), dtype=bool))
    with pytest.raises(UnknownNameError, match="one-ton"):
        make_class("one-tun", (2, 2, 2))
    with pytest.raises(SettingError, match="takes no option 'size'"):
        make_class("one-ton", (2, 2, 2), size=3)
    with pytest.raises(SettingError, match="can be listed"):
        everything(6, 6, 2)
    with pytest.raises(SettingError, match="2 actions"):
        make_class("linear-threshold", (2, 2, 3))
