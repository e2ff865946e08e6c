"""Random numbers that belong to a row, not to a generator.

``uniforms`` hashes (seed, purpose, step, row, column) to a double in [0, 1) with 53 random bits. Because a number depends
only on its key, batching, padding, order and restarts cannot change it: the reference and the scaled room draw the same
numbers, and a state needs counters instead of generators.

The mixing function is the finaliser of splitmix64 [steele2014, "Fast splittable pseudorandom number generators",
OOPSLA]. The text below uses operators only, on signed 64-bit integers, so that it serves NumPy and torch alike.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from polytheory._typing import Array, Float, Int
from polytheory.errors import SettingError

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_M1, _M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(x: int) -> int:
    """The signed 64-bit integer with the same bits."""
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x


def _shift_right(x: Any, k: int) -> Any:
    # `>>` is arithmetic on signed integers: clear the copied sign bits
    return (x >> k) & ((1 << (64 - k)) - 1)


def _mix(x: Any) -> Any:
    x = (x ^ _shift_right(x, 30)) * _signed(_M1)
    x = (x ^ _shift_right(x, 27)) * _signed(_M2)
    return x ^ _shift_right(x, 31)


def _mix_int(x: int) -> int:
    x &= _MASK
    x = ((x ^ (x >> 30)) * _M1) & _MASK
    x = ((x ^ (x >> 27)) * _M2) & _MASK
    return x ^ (x >> 31)


def subseed(seed: int, purpose: str, *numbers: int) -> int:
    """Derive an independent 63-bit seed from a seed, a purpose and counters (crc32 of the purpose, never ``hash``)."""
    x = _mix_int(seed + _GOLDEN)
    for number in (zlib.crc32(purpose.encode()), *numbers):
        x = _mix_int(x + (number + 1) * _GOLDEN)
    return x >> 1


def row_ids(
    replica: Int[np.ndarray, " n"] | int, episode: Int[np.ndarray, " n"] | int, sample: Int[np.ndarray, " n"] | int = 0
) -> Int[np.ndarray, " n"]:
    """Pack the identity of rows into one int64 each: replica < 2^20, episode < 2^31, sample < 2^12.

    Returns shape [n] (scalars broadcast; n >= 1). Raises `SettingError` for a number out of its range.
    """
    parts = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, dtype=np.int64)) for x in (replica, episode, sample)))
    rep, epi, sam = (np.array(p) for p in parts)
    for name, x, bits in (("replica", rep, 20), ("episode", epi, 31), ("sample", sam, 12)):
        if x.size and (x.min() < 0 or x.max() >> bits):
            raise SettingError(f"{name} ids must lie in [0, 2^{bits}); got values in [{x.min()}, {x.max()}]; use fewer")
    return (rep << 43) | (epi << 12) | sam


def uniforms(
    seed: int, purpose: str, step: int, row_id: Int[Array, " n"], size: int, *, first: int = 0
) -> Float[Array, "n {size}"]:
    """Draw ``size`` uniforms in [0, 1) for each row, as float64, in the array type of ``row_id`` (NumPy or torch).

    Args:
        seed: seed of the run.
        purpose: what the numbers are for; different purposes give independent streams.
        step: iteration of the algorithm, >= 0.
        row_id: int64 identity of each row (see `row_ids`), shape [n].
        size: how many numbers a row gets. Asking for more later leaves the first ones unchanged.
        first: index of the first number, so that long rows can be drawn in blocks.
    """
    base = _signed(subseed(seed, purpose, step))
    if isinstance(row_id, np.ndarray):
        column = np.arange(first, first + size, dtype=np.int64)
        scale = np.array([2.0**-53])
    else:
        import torch

        column = torch.arange(first, first + size, dtype=torch.int64, device=row_id.device)
        # one-element float64 tensor: `int64 * python float` would be float32 in torch
        scale = torch.tensor([2.0**-53], dtype=torch.float64, device=row_id.device)
    # two rounds, so that (row, column) pairs do not collide along diagonals
    row = _mix((row_id + 1) * _signed(_GOLDEN) + base)
    bits = _mix(row[:, None] + (column + 1) * _signed(_GOLDEN))
    return _shift_right(bits, 11) * scale
