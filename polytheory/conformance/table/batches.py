"""The batches of the table: one that every row is computed on, and the smallest ones on which something goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch

from polytheory.conformance.contract import Batch

Rows = Sequence[Sequence[float | int]]


@cache
def named(name: str) -> Batch:
    """A batch by name: ``small`` and those of ``WITNESSES``."""
    return {"small": small, **WITNESSES}[name]()


def small() -> Batch:
    """Six completions of two prompts, 1 to 4 of at most 4 tokens.

    Ratios and advantages reach every branch of the losses: clipped above and below, unclipped on both sides, beyond 3.
    """
    now = [[-0.5, -1.2, 0, 0], [-1.1, -0.4, -2.0, 0], [-0.2, -1.5, -0.6, -1.0], [-1.3, 0, 0, 0],
           [-0.7, -2.2, -1.4, -0.3], [-0.9, -0.6, -1.7, 0]]  # fmt: skip
    moved = [[0.1, -0.4, 0, 0], [0.2, -0.15, -0.3, 0], [-0.25, 0.6, 0.05, -0.3], [1.3, 0, 0, 0],
             [-0.1, 0.5, -0.35, 0.2], [0.15, -0.6, 0.1, 0]]  # fmt: skip
    from_ref = [[0.2, -0.1, 0, 0], [-0.4, 0.1, 0.2, 0], [0.1, 0.2, -0.2, 0.4], [-0.3, 0, 0, 0],
                [0.5, -0.2, 0.1, 0.2], [-0.2, 0.2, 0.1, 0]]  # fmt: skip
    mismatch = [[0.05, -0.02, 0, 0], [0.9, 0.1, -0.2, 0], [-0.03, 0.02, 0.04, -0.5], [0.02, 0, 0, 0],
                [1.3, -0.04, 0, 0.05], [-0.2, -0.3, -0.4, 0]]  # fmt: skip
    values = [[0.6, 0.8, 0, 0], [0.4, 0.3, 0.1, 0], [0.4, 0.5, 0.2, 0.6], [0.3, 0, 0, 0],
              [0.5, 0.2, 0.1, 0.1], [0.4, 0.7, 0.9, 0]]  # fmt: skip
    return make(
        now, [2, 3, 4, 1, 4, 3], moved=moved, from_ref=from_ref, mismatch=mismatch, values=values,
        advantages=[1.0, -0.5, 0.5, -1.0, -0.8, 0.8], score=[1.0, 0.0, 0.5, 0.0, 0.0, 1.0], group=[0, 0, 0, 1, 1, 1],
        pairs=[[0, 1], [2, 3], [5, 4]], max_length=8,
    )  # fmt: skip


def make(
    now: Rows, lengths: list[int], *, advantages: Sequence[float | int], score: Sequence[float | int], group: list[int],
    max_length: int, moved: Rows | None = None, from_ref: Rows | None = None, mismatch: Rows | None = None,
    values: Rows | None = None, pairs: list[list[int]] | None = None,
) -> Batch:  # fmt: skip
    """A batch from current log-probs and how far they are from the others: ``old = now - moved``, ``ref = now - from_ref``
    and ``sampler = old - mismatch``; 0 where not given."""
    zeros: Rows = [[0.0] * len(row) for row in now]
    one, two, three, four, five = (
        torch.tensor(x or zeros, dtype=torch.float64) for x in (now, moved, from_ref, mismatch, values)
    )
    return Batch(
        log_probs=one, log_probs_old=one - two, log_probs_ref=one - three, log_probs_sampler=one - two - four,
        mask=torch.arange(one.shape[1]) < torch.tensor(lengths)[:, None],
        advantages=torch.tensor(advantages, dtype=torch.float64), score=torch.tensor(score, dtype=torch.float64),
        values=five, group=torch.tensor(group), pairs=torch.tensor(pairs or [], dtype=torch.int64).reshape(-1, 2),
        max_length=max_length,
    )  # fmt: skip


def on_policy() -> Batch:
    """``small`` before the first update: the old policy is the current one."""
    batch = small()
    return replace(batch, log_probs_old=batch.log_probs)


def one_and_two() -> Batch:
    """A group of one and a group of two."""
    return make(
        [[-0.5], [-1.2], [-0.7]], [1, 1, 1], advantages=[1, 1, -1], score=[1.0, 1.0, 0.0], group=[0, 1, 1], max_length=1
    )


def half_right() -> Batch:
    """Two completions of one prompt, one right and one wrong."""
    return make(
        [[-0.5], [-1.2]], [1, 1], from_ref=[[0.1], [-0.2]], advantages=[1, -1], score=[1.0, 0.0], group=[0, 0],
        pairs=[[0, 1]], max_length=1,
    )  # fmt: skip


def half_right_shifted() -> Batch:
    """``half_right`` with 1 added to both rewards."""
    return replace(half_right(), score=torch.tensor([2.0, 1.0], dtype=torch.float64))


def short_and_long() -> Batch:
    """Two completions of one prompt, of one and of three tokens; the ratio has moved by +-10 %."""
    return make(
        [[-0.5, 0, 0], [-1.2, -0.7, -0.4]], [1, 3], moved=[[0.1, 0, 0], [0.1, -0.1, 0.1]], advantages=[1, -1],
        score=[1.0, 0.0], group=[0, 0], max_length=4,
    )  # fmt: skip


def two_tokens_two_ways() -> Batch:
    """One completion of two tokens whose ratios are e and 1/e: the ratio of the sequence is 1."""
    return make(
        [[-0.5, -1.2]], [2], moved=[[1.0, -1.0]], from_ref=[[0.5, -0.5]], advantages=[0.0], score=[0.0], group=[0],
        max_length=2,
    )  # fmt: skip


def four_times_as_likely() -> Batch:
    """One good token that has become four times as likely, from 1/64 to 1/16."""
    log4 = 1.3862943611198906
    return make([[-2 * log4]], [1], moved=[[log4]], advantages=[1.0], score=[1.0], group=[0], max_length=1)


def far_from_the_reference() -> Batch:
    """One token that is e^3 times less likely than under the reference: k3 = e^3 - 4."""
    return make([[-4.0]], [1], from_ref=[[-3.0]], advantages=[0.0], score=[0.0], group=[0], max_length=1)


def beyond_the_bound() -> Batch:
    """One token that the trainer's old policy finds four times as likely as the sampler did."""
    return make([[-1.0]], [1], mismatch=[[1.3862943611198906]], advantages=[1.0], score=[1.0], group=[0], max_length=1)


WITNESSES = {
    f.__name__.replace("_", " "): f
    for f in (
        on_policy, one_and_two, half_right, half_right_shifted, short_and_long, two_tokens_two_ways,
        four_times_as_likely, far_from_the_reference, beyond_the_bound,
    )
}  # fmt: skip
