"""Random numbers by row: the same in both array libraries, independent of position, uniform, and frozen."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import stats

from polytheory.errors import SettingError
from polytheory.streams import _shift_right, _signed, row_ids, subseed, uniforms

SEEDS = st.one_of(st.integers(0, 3), st.integers(0, 2**64))
M64 = 2**64


def splitmix(x):
    """The finaliser of splitmix64 on unsigned Python integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % M64
    return x ^ (x >> 31)


def by_hand(seed, purpose, step, row, column):
    """One number in exact integer arithmetic, without any array library."""
    golden = 0x9E3779B97F4A7C15
    base = subseed(seed, purpose, step)
    x = splitmix(((row + 1) * golden + base) % M64)
    x = splitmix((x + (column + 1) * golden) % M64)
    return (x >> 11) / 2**53


@given(seed=SEEDS, step=st.integers(0, 10**6), rows=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5))
def test_numpy_and_torch_and_integers_agree(seed, step, rows):
    ids = np.array(rows, dtype=np.int64)
    u = uniforms(seed, "purpose", step, ids, 3)
    assert u.dtype == np.float64
    t = uniforms(seed, "purpose", step, torch.as_tensor(ids), 3)
    assert t.dtype == torch.float64
    assert_array_equal(u, t.numpy())
    assert_array_equal(u, [[by_hand(seed, "purpose", step, r, k) for k in range(3)] for r in rows])
    assert u.min() >= 0
    assert u.max() < 1


def test_an_arithmetic_shift_would_be_caught():
    """The same text with `>>` unmasked, as signed integers shift by default, gives other numbers for half of the rows."""
    ids = np.arange(64, dtype=np.int64)
    with np.errstate(over="ignore"):
        x = (ids + 1) * _signed(0x9E3779B97F4A7C15) + _signed(subseed(0, "p", 0))
        mutant = (x ^ (x >> 30)) * _signed(0xBF58476D1CE4E5B9)
    good = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    assert_array_equal(mutant != good, x < 0)
    assert 16 < (x < 0).sum() < 48


def test_known_vectors():
    """Frozen: another number here means that every stored result of the project changes."""
    assert splitmix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # first output of splitmix64 with seed 0, as published
    assert subseed(0, "a") == 0x2D6AF3078FCD130D
    assert subseed(1, "n-pg-igt/tau", 7) == 0x6FD0D1B617932048
    got = uniforms(42, "known", 3, np.array([0, 1, 2**40], dtype=np.int64), 2)
    assert [[x.hex() for x in row] for row in got.tolist()] == [
        ["0x1.492d0c1ef1fb0p-3", "0x1.a93b7690cc890p-2"],
        ["0x1.3c8e35b541ff7p-1", "0x1.359f43a9eb02ep-1"],
        ["0x1.35fefa31c64f4p-1", "0x1.93f6df4f8dcb5p-1"],
    ]


@given(seed=SEEDS, data=st.data())
def test_a_number_depends_on_its_key_only(seed, data):
    """Not on batch, order, padding, size or block."""
    ids = np.array(data.draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=6)), dtype=np.int64)
    whole = uniforms(seed, "x", 1, ids, 8)
    order = np.array(data.draw(st.permutations(range(len(ids)))))
    assert_array_equal(uniforms(seed, "x", 1, ids[order], 8), whole[order])
    for i, row in enumerate(ids):
        assert_array_equal(uniforms(seed, "x", 1, np.array([row]), 8)[0], whole[i])
    k = data.draw(st.integers(1, 7))
    assert_array_equal(uniforms(seed, "x", 1, ids, k), whole[:, :k])
    assert_array_equal(uniforms(seed, "x", 1, ids, 8 - k, first=k), whole[:, k:])


def test_every_part_of_the_key_matters():
    ids = np.arange(50, dtype=np.int64)
    base = uniforms(1, "x", 2, ids, 4)
    for other in (
        uniforms(2, "x", 2, ids, 4),
        uniforms(1, "y", 2, ids, 4),
        uniforms(1, "x", 3, ids, 4),
        uniforms(1, "x", 2, ids + 50, 4),
    ):
        assert not np.isin(other, base).any()
    assert len(np.unique(base)) == base.size
    # (row, column) pairs do not collide along diagonals
    assert base[0, 1] != base[1, 0]


SIZE = 2**16
ALPHA = 1e-6  # chance that one of these fixed-seed tests rejects a perfect generator


@cache
def streams():
    """Numbers along each direction in which a user walks: columns, rows, steps, seeds, replicas."""
    one = np.array([0], dtype=np.int64)
    return {
        "columns": uniforms(0, "c", 0, one, SIZE)[0],
        "rows": uniforms(0, "r", 0, np.arange(SIZE, dtype=np.int64), 1)[:, 0],
        "steps": np.concatenate([uniforms(0, "s", k, np.arange(16), 1)[:, 0] for k in range(SIZE // 16)]),
        "seeds": np.concatenate([uniforms(k, "d", 0, np.arange(16), 1)[:, 0] for k in range(SIZE // 16)]),
        "replicas": uniforms(0, "i", 0, row_ids(np.arange(SIZE), 0), 1)[:, 0],
    }


def chi_square(cells, n):
    """p-value of equal cell probabilities."""
    counts = np.bincount(cells, minlength=n)
    return stats.chi2.sf(((counts - len(cells) / n) ** 2).sum() * n / len(cells), n - 1)


@pytest.mark.parametrize("direction", ["columns", "rows", "steps", "seeds", "replicas"])
def test_uniform_and_serially_independent(direction):
    u = streams()[direction]
    assert chi_square((u * 256).astype(int), 256) > ALPHA
    low = (u * 2**53).astype(np.int64)
    assert chi_square(low & 255, 256) > ALPHA  # the low bits are as good
    for lag in (1, 2, 16):
        pairs = (u[:-lag] * 16).astype(int) * 16 + (u[lag:] * 16).astype(int)
        assert chi_square(pairs[:: lag + 1], 256) > ALPHA
    assert stats.kstest(u, "uniform").pvalue > ALPHA


def test_the_chi_square_rejects_bad_generators():
    u = streams()["columns"]
    assert chi_square((u**1.05 * 256).astype(int), 256) < ALPHA  # slightly skewed
    weyl = (np.arange(SIZE) * 0.6180339887498949) % 1
    pairs = (weyl[:-1] * 16).astype(int) * 16 + (weyl[1:] * 16).astype(int)
    assert chi_square(pairs, 256) < ALPHA  # uniform but serially dependent


@given(
    parts=st.lists(
        st.tuples(st.integers(0, 2**20 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**12 - 1)), min_size=1, max_size=5
    )
)  # fmt: skip
def test_row_ids_are_unique_and_packed(parts):
    columns = [np.array(x) for x in zip(*parts, strict=True)]
    ids = row_ids(*columns)
    assert ids.dtype == np.int64
    assert ids.min() >= 0
    assert_array_equal(np.column_stack([ids >> 43, (ids >> 12) & (2**31 - 1), ids & (2**12 - 1)]), parts)


def test_row_ids_broadcast_and_refuse():
    assert_array_equal(row_ids(0, np.arange(3)), [0, 4096, 8192])
    assert row_ids(1, 2, 3).shape == (1,)
    for bad, name in (((2**20, 0), "replica"), ((0, 2**31), "episode"), ((0, 0, 4096), "sample"), ((-1, 0), "replica")):
        with pytest.raises(SettingError, match=f"{name} ids must lie in"):
            row_ids(*bad)


def test_subseeds_differ():
    many = {subseed(s, p, k) for s in range(30) for p in ("a", "b", "n-pg-igt/tau") for k in range(30)}
    assert len(many) == 30 * 3 * 30
    assert all(0 <= x < 2**63 for x in many)
    assert subseed(0, "a", 0) != subseed(0, "a") != subseed(0, "a", 0, 0)
