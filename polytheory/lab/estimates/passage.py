"""N(eps): after how many episodes the returned policy is eps-optimal, with runs that never got there kept as censored.

Two definitions, by name:

- ``"first"``: the first recorded episode at which the suboptimality is at most eps.
- ``"stays"``: the first recorded episode from which on every record is at most eps. A record that ends is no proof of
staying, so
  it counts as seen only if the run went on for at least as long again: a run recorded up to T says something about
  ``N <= T / 2`` and is censored at T / 2 otherwise.

``"stays"`` is never before ``"first"``. Between two records nothing is known: N is rounded up to the next record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polytheory._typing import Bool, Float
from polytheory.errors import SettingError, UnknownNameError

KINDS = ("first", "stays")
HOLD = 0.5  # "stays": N is seen where it is at most this share of the record


@dataclass(frozen=True, eq=False)
class Passages:
    """Times of an event in n runs; ``times`` [n] of the event where ``observed`` [n], of the end of the record where not."""

    times: Float[np.ndarray, " n"]
    observed: Bool[np.ndarray, " n"]

    def __post_init__(self) -> None:
        if not len(self.times):
            raise SettingError("no run at all; at least one time is needed")
        if not (np.isfinite(self.times).all() and (self.times >= 0).all()):
            raise SettingError(f"times lie in [0, inf); found {self.times.min()} to {self.times.max()}")


def passages(
    at: Float[np.ndarray, " T"], suboptimality: Float[np.ndarray, "n T"], eps: float, *, kind: str = "first"
) -> Passages:
    """N(eps) of each run.

    Args:
        at: episodes after which the policy was measured, increasing.
        suboptimality: exact ``V* - V^pi`` of each run there; NaN after the end of a run that was cut short.
        eps: what is good enough, > 0.
        kind: "first" or "stays".

    Raises `SettingError` on an empty or unordered record, or one with gaps; `UnknownNameError` for another kind.
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of N(eps)", kind, KINDS)
    if not eps > 0:
        raise SettingError(f"eps = {eps}; how far from optimal is good enough is a positive number")
    if not (len(at) and (np.diff(at) > 0).all()):
        raise SettingError("the episodes of a record must increase, and there must be one at least")
    known = ~np.isnan(suboptimality)
    length = known.sum(axis=1)
    if not (length > 0).all():
        raise SettingError(f"run {int(np.argmin(length))} has no record; leave it out")
    if not (known == (np.arange(len(at)) < length[:, None])).all():
        raise SettingError("a record has gaps (NaN before its end); measure at the same episodes throughout")
    good = np.where(known, suboptimality, np.inf) <= eps
    end = at[length - 1]
    if kind == "first":
        index, limit = np.where(good.any(axis=1), good.argmax(axis=1), len(at)), end
    else:
        bad = known & ~good
        index = np.where(bad.any(axis=1), len(at) - bad[:, ::-1].argmax(axis=1), 0)  # after the last bad one
        index, limit = np.where(index < length, index, len(at)), HOLD * end
    times = np.append(at, np.inf)[index]
    observed = times <= limit
    return Passages(np.where(observed, times, limit), observed)


def censored_share(found: Sequence[Passages]) -> Float[np.ndarray, " points"]:
    """Share of runs without the event, for each of several eps."""
    return np.array([1 - x.observed.mean() for x in found])
