"""Bundles of prompts: their samples and scores, and how a bundle sample's advantage is shared among its responses.

A bundle holds B prompts of G responses each. Its G samples take one response of every prompt, without replacement. Which
prompts form a bundle, and in which order a prompt's responses are taken, are columns written with the data (``bundle``,
``shuffle``), so that the order of rows never matters.

References: [ren2025] Ren et al., RiskPO, arXiv 2510.00911.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.reference.posttraining.advantages import groups
from polytheory.reference.posttraining.base import PARTS

Columns = dict[str, Any]
CREDITS = ("uniform", "std", "score", "sum_mean")
NO_SUM = 1e-6  # a bundle sample whose centred scores sum to less is shared equally (the released code)


@PARTS.part(
    Kind.REWARD_TRANSFORM, reads=("score", "group", "bundle", "shuffle"), writes=("bundle_sample", "bundle_score"),
    unit=Unit.GROUP, source="ren2025, Algorithm 1",
)  # fmt: skip
def form_bundles(columns: Columns, *, size: int = 5) -> Columns:
    """Put every response into one sample of its prompt's bundle.

    Args:
        columns: ``score`` [n]; ``group`` [n] prompt; ``bundle`` [n] bundle of the prompt; ``shuffle`` [n], the j-th smallest
            of a prompt goes to the bundle's sample j. Writes ``bundle_sample`` [n], a number of the sample in the whole
            batch, and ``bundle_score`` [n], the sum of the scores of that sample.
        size: prompts of a bundle, B >= 1.

    Raises `SettingError`, and `ColumnError` for a bundle of another number of prompts, prompts of unequal numbers of
    responses in a bundle, a prompt in two bundles, or a shuffle that does not tell responses apart.
    """
    if size < 1:
        raise SettingError(f"size = {size}; a bundle holds at least 1 prompt, the paper 5")
    score, group, bundle, shuffle = need(columns, "score", "group", "bundle", "shuffle")
    sample, made = np.zeros(len(score), dtype=np.int64), 0
    for rows in groups(group):
        found = np.unique(bundle[rows])
        if len(found) > 1:
            raise ColumnError(f"group {group[rows[0]]} is in bundles {found.tolist()}; a prompt is in one")
    for rows in groups(bundle):
        prompts = [rows[own] for own in groups(group[rows])]
        check_bundle(bundle[rows[0]], [len(own) for own in prompts], size)
        for own in prompts:
            if len(set(shuffle[own])) < len(own):
                raise ColumnError(f"group {group[own[0]]}: two responses have one place in shuffle; give each its own")
            sample[own[np.argsort(shuffle[own])]] = made + np.arange(len(own))
        made += len(prompts[0])
    whole = np.zeros(len(score))
    for member in members(
        sample, group, size
    ).T:  # in the order of prompts: the sum is the same for every order of rows
        whole += np.asarray(score, dtype=float)[member][sample]
    return {**columns, "bundle_sample": sample, "bundle_score": whole}


def members(sample: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"], size: int) -> Int[np.ndarray, "m {size}"]:
    """The rows of every bundle sample, in the order of their prompts."""
    return np.lexsort((group, sample)).reshape(-1, size)


@PARTS.part(
    Kind.ADVANTAGE, reads=("score", "group", "bundle_sample", "bundle_advantages"), writes=("advantages",),
    unit=Unit.SEQUENCE, source="RTkenny/RiskPO, core_algos.py",
)  # fmt: skip
def share_credit(
    columns: Columns, *, credit: str = "sum_mean", size: int = 5, largest_share: float = 5.0,
    least_deviation: float = 1e-3, eps: float = 1e-6,
) -> Columns:  # fmt: skip
    """Advantages of responses from those of their bundle samples; writes ``advantages`` [n].

    Args:
        columns: ``score``, ``group``, ``bundle_sample``, ``bundle_advantages`` [n].
        credit: "uniform" the sample's own; "std" divided by the Bessel-corrected deviation of the prompt's scores plus
            ``eps`` (by 1 where it is at most ``least_deviation``); "score" times 0.5 for a positive score and 1.5 for
            others; "sum_mean" in proportion to the scores less their prompt's mean, see `shares`.
        size: prompts of a bundle, B.
        largest_share: for "sum_mean", > 1.

    Raises `UnknownNameError`, `SettingError`, and `ColumnError` for one response where a deviation is asked for.
    """
    check_credit(credit, largest_share, least_deviation, eps)
    score, group, sample, whole = need(columns, "score", "group", "bundle_sample", "bundle_advantages")
    score, whole = np.asarray(score, dtype=float), np.asarray(whole, dtype=float)
    factor = np.ones(len(score))
    if credit == "score":
        factor = np.where(score > 0, 0.5, 1.5)
    elif credit == "std":
        for rows in groups(group, least=2):
            spread = np.std(score[rows], ddof=1)
            factor[rows] = 1 / (spread + eps) if spread > least_deviation else 1.0
    elif credit == "sum_mean":
        centred = np.zeros(len(score))
        for rows in groups(group):
            centred[rows] = score[rows] - score[rows].mean()
        rows = members(sample, group, size)
        factor[rows] = shares(centred[rows], largest_share)
    return {**columns, "advantages": whole * factor}


def shares(centred: Float[np.ndarray, "m B"], largest: float) -> Float[np.ndarray, "m B"]:
    """``d_i / sum_j d_j`` in every row, equal shares where the sum is below 1e-6; rows sum to 1.

    The sum is signed and may be tiny. Where a share exceeds ``largest`` in size, the row is drawn towards equal shares until
    none does, so that the sum remains 1; ``inf`` is the released code.
    """
    size = centred.shape[1]
    total = centred.sum(axis=1, keepdims=True)
    usable = np.abs(total) > NO_SUM
    away = np.where(usable, centred / np.where(usable, total, 1.0), 1 / size) - 1 / size
    room = largest - np.sign(away) / size
    far = np.max(np.abs(away) / room, axis=1, keepdims=True)  # 0 where the bound is inf
    return 1 / size + away / np.maximum(far, 1.0)


def check_bundle(name: Any, responses: list[int], size: int) -> None:
    """Raise `ColumnError` unless there are ``size`` prompts with as many responses each."""
    if len(responses) != size:
        raise ColumnError(f"bundle {name} has {len(responses)} prompt(s), not {size}; drop it or fill it up")
    if len(set(responses)) > 1:
        raise ColumnError(
            f"bundle {name} has prompts with {min(responses)} and {max(responses)} responses; make them equal"
        )


def check_credit(credit: str, largest_share: float, least_deviation: float, eps: float) -> None:
    """Raise `UnknownNameError` or `SettingError` for settings of `share_credit` out of range."""
    if credit not in CREDITS:
        raise UnknownNameError("credit", credit, CREDITS)
    if not largest_share > 1:
        raise SettingError(f"largest_share = {largest_share}; equal shares must fit below it, take a number > 1 or inf")
    if not (0 <= least_deviation < np.inf and 0 <= eps < np.inf):
        raise SettingError(f"least_deviation = {least_deviation}, eps = {eps}; both are finite and >= 0")
