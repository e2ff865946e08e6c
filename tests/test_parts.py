"""Parts and rollouts: what does not fit together is refused before any work."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Registry, Unit, need
from polytheory.rollouts import LogProbs, Rollouts


def registry() -> Registry:
    made = Registry("test")
    made.part(Kind.ADVANTAGE, reads=("score", "group"), writes=("advantages",), unit=Unit.SEQUENCE)(advantage)
    made.part(Kind.LOSS, reads=("log_probs", "advantages"), now=("log_probs",))(loss)
    return made


def advantage(columns):
    return {**columns, "advantages": columns["score"]}


def loss(columns):
    return -columns["advantages"] * columns["log_probs"]


def test_an_order_in_which_everything_is_written_before_it_is_read_is_accepted():
    parts = registry().check_order(["advantage", "loss"], ["score", "group", "log_probs"])
    assert [p.name for p in parts] == ["advantage", "loss"]


def test_a_missing_column_names_the_part_the_column_and_who_could_write_it():
    with pytest.raises(ColumnError, match=r"part .loss. reads column .advantages..*put one of advantage before it"):
        registry().check_order(["loss", "advantage"], ["score", "group", "log_probs"])
    with pytest.raises(ColumnError, match="no part writes it"):
        registry().check_order(["advantage"], ["score"])
    with pytest.raises(ColumnError, match="column 'group' is missing; present: score"):
        need({"score": 1}, "group")


def test_registration_is_checked():
    made = registry()
    with pytest.raises(UnknownNameError, match="did you mean 'advantage'"):
        made["advantge"]
    with pytest.raises(SettingError, match="not among its reads"):
        made.part(Kind.LOSS, reads=("mask",), now=("log_probs",), name="bad")(loss)
    assert made.names(Kind.LOSS) == ("loss",)


def rollouts(**changes) -> Rollouts:
    base = Rollouts(
        actions=np.array([[1, 2, 0], [2, 0, 0]]),
        mask=np.array([[True, True, False], [True, False, False]]),
        score=np.array([1.0, 0.0]),
        group=np.array([7, 7]),
        log_probs_sampler=np.array([[-1.0, -2.0, -np.inf], [-0.5, 3.0, 3.0]]),
    )
    return dataclasses.replace(base, **changes)


def test_masked_entries_are_zeroed_before_any_arithmetic():
    expected = [[-1.0, -2.0, 0.0], [-0.5, 0.0, 0.0]]
    np.testing.assert_array_equal(rollouts().checked()["log_probs_sampler"], expected)
    as_torch = rollouts(
        mask=torch.tensor(rollouts().mask), log_probs_sampler=torch.tensor(rollouts().log_probs_sampler)
    )
    np.testing.assert_array_equal(as_torch.checked()["log_probs_sampler"].numpy(), expected)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"score": np.array([np.nan, 0.0])}, {}, r"score\[0\] = nan"),
        ({"mask": np.array([[True, True, False], [False, False, False]])}, {}, "row 1 has no trained token"),
        ({"group": np.array([0, 1])}, {"min_group": 2}, "group 0 has 1 completion"),
        ({"log_probs_sampler": np.full((2, 3), np.nan)}, {}, "is NaN, also masked entries"),
        ({"columns": {"log_probs_old": np.array([[-30.0, 0, 0], [0, 0, 0.0]])}}, {}, "differ by 29"),
        ({"columns": {"values": np.zeros((3, 3))}}, {}, "values must have shape"),
    ],
)
def test_bad_rollouts_are_refused_with_the_entry_named(changes, options, message):
    with pytest.raises(ColumnError, match=message):
        rollouts(**changes).checked(**options)


def test_ratios_of_log_probs_under_different_contracts_are_refused():
    LogProbs(0.7, processed=True).check_ratio(LogProbs(0.7, processed=True))
    LogProbs(1.0, processed=True).check_ratio(LogProbs(1.0, processed=False))
    with pytest.raises(ColumnError, match=r"at temperature 0.7 \(processed\) and at 1.0 \(raw\)"):
        LogProbs(0.7, processed=True).check_ratio(LogProbs(1.0, processed=False))
