"""Corrections, KL in rewards, shaping and filter: both rooms agree on generated batches; bad settings are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal
from posttraining_batches import REGISTRIES, batch, batches, loss_and_gradient, tensors

from polytheory.errors import ColumnError, SettingError, UnknownNameError

CALLS = [
    ("truncated_is", {"cap": 1.2}, "sampler_weights"),
    ("truncated_is", {"cap": 1.2, "unit": "sequence"}, "sampler_weights"),
    ("masked_is", {"cap": 1.2, "floor": 0.8}, "sampler_weights"),
    ("masked_is", {"cap": np.inf, "unit": "sequence"}, "sampler_weights"),
    ("kl_in_reward", {"beta": 0.3}, "advantages"),
    ("kl_in_score", {"beta": 0.3}, "score"),
    ("overlong_shaping", {"max_length": 4, "buffer": 2}, "score"),
    ("dynamic_sampling", {}, "log_probs"),
    ("dynamic_sampling", {"prompts": 1}, "group"),
]


@pytest.mark.parametrize(("name", "settings", "written"), CALLS)
@given(columns=batches())
def test_rooms_agree(name, settings, written, columns):
    given_columns = {k: x for k, x in columns.items() if k != "pairs"}
    a = REGISTRIES["reference"][name](given_columns, **settings)[written]
    b = REGISTRIES["scaled"][name](tensors(given_columns), **settings)[written]
    assert_allclose(a, b.numpy(), rtol=1e-13, atol=1e-14)


@given(columns=batches())
def test_corrections_multiply_the_gradient(columns):
    columns["sampler_weights"] = np.full(len(columns["mask"]), 0.25)
    plain = {k: x for k, x in columns.items() if k != "sampler_weights"}
    for name in ("reinforce", "ppo_clip", "gspo", "cispo"):
        for room in ("reference", "scaled"):
            value, gradient = loss_and_gradient(room, name, columns)
            other, full = loss_and_gradient(room, name, plain)
            assert_allclose(value, 0.25 * other, rtol=1e-12, atol=1e-14)
            assert_allclose(gradient, 0.25 * full, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("room", ["reference", "scaled"])
def test_refusals(room):
    columns = batch(0, 2)
    columns = columns if room == "reference" else tensors(columns)
    parts = REGISTRIES[room]
    for name, settings, error, message in (
        ("truncated_is", {"unit": "word"}, UnknownNameError, "unit of weights"),
        ("masked_is", {"cap": 1.0, "floor": 1.0}, SettingError, "0 <= floor < cap"),
        ("kl_in_score", {"beta": -1.0}, SettingError, "beta = -1.0"),
        ("overlong_shaping", {"max_length": 4, "buffer": 0}, SettingError, "0 < buffer <= max_length"),
        ("ppo_clip", {"dual": 1.0}, SettingError, "dual is None or > 1"),
        ("gspo", {"eps_low": -0.1}, SettingError, "widths are >= 0"),
        ("cispo", {"ratio_low": 2.0, "ratio_high": 1.0}, SettingError, "ratio_low < ratio_high"),
        ("dpo", {"beta": 0.0}, SettingError, "beta = 0.0"),
        ("ipo", {"tau": float("inf")}, SettingError, "tau = inf"),
    ):
        with pytest.raises(error, match=message):
            parts[name](columns, **settings)
    with pytest.raises(ColumnError, match=r"pairs name rows 0 to 99; there are"):
        parts["dpo"]({**columns, "pairs": columns["pairs"][:1] * 0 + columns["pairs"].new_tensor([[0, 99]])}
                     if room == "scaled" else {**columns, "pairs": np.array([[0, 99]])})  # fmt: skip
    with pytest.raises(ColumnError, match=r"pairs must be \[m, 2\]"):
        parts["ipo"]({**columns, "pairs": columns["group"]})
    with pytest.raises(ColumnError, match="a loss of sequences needs one number per row"):
        parts["gspo"]({**columns, "advantages": columns["values"]})
    with pytest.raises(ColumnError, match="row 0 has no trained token"):
        parts["gspo"]({**columns, "mask": columns["mask"] & ~columns["mask"]})


def test_a_broken_ratio_is_clamped_and_has_no_gradient():
    columns = {**batch(0, 1), "advantages": np.ones(2)}
    columns = {k: x[:2] for k, x in columns.items()}
    columns["log_probs_old"] = columns["log_probs"] - 30.0
    columns["mask"][:] = True
    wide = {"eps_high": 1e12}
    for room in ("reference", "scaled"):
        value, gradient = loss_and_gradient(room, "ppo_clip", columns, **wide)
        assert_allclose(value, -np.exp(20.0), rtol=1e-12)
        assert_array_equal(gradient, 0.0)
