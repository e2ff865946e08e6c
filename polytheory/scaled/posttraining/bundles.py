"""Bundles of prompts in torch: their samples and scores, and how a bundle sample's advantage is shared among its responses.

A bundle holds B prompts of G responses each. Its G samples take one response of every prompt, without replacement. Which
prompts form a bundle, and in which order a prompt's responses are taken, are columns written with the data (``bundle``,
``shuffle``), so that the order of rows never matters.
"""

from __future__ import annotations

from math import inf
from typing import Any

import torch

from polytheory._typing import Float, Int
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.scaled.posttraining.advantages import group_index, group_total
from polytheory.scaled.posttraining.base import PARTS

Columns = dict[str, Any]
CREDITS = ("uniform", "std", "score", "sum_mean")
NO_SUM = 1e-6  # a bundle sample whose centred scores sum to less is shared equally (the released code)


@PARTS.part(
    Kind.REWARD_TRANSFORM, reads=("score", "group", "bundle", "shuffle"), writes=("bundle_sample", "bundle_score"),
    unit=Unit.GROUP, source="ren2025, Algorithm 1",
)  # fmt: skip
def form_bundles(columns: Columns, *, size: int = 5) -> Columns:
    """Put every response into one sample of its prompt's bundle; columns and errors as in the reference.

    Reads ``score``, ``group``, ``bundle``, ``shuffle`` [n]; writes ``bundle_sample``, ``bundle_score`` [n].
    """
    if size < 1:
        raise SettingError(f"size = {size}; a bundle holds at least 1 prompt, the paper 5")
    score, group, bundle, shuffle = need(columns, "score", "group", "bundle", "shuffle")
    prompt, responses = group_index(group)
    names, own = torch.unique(bundle, return_inverse=True)
    prompts = torch.zeros(int(prompt.max()) + 1 if len(prompt) else 0, dtype=torch.int64, device=group.device)
    low, high = (prompts.scatter_reduce(0, prompt, own, way, include_self=False) for way in ("amin", "amax"))
    if bool((low != high).any()):
        i = int((low != high)[prompt].to(torch.int8).argmax())
        raise ColumnError(
            f"group {int(group[i])} is in bundles {bundle[group == group[i]].unique().tolist()}; a prompt is in one"
        )
    counts = torch.zeros_like(prompts).scatter(0, prompt, responses.long())
    for k, name in enumerate(names.tolist()):
        check_bundle(name, counts[low == k].tolist(), size)
    order = shuffle.argsort(stable=True)
    order = order[prompt[order].argsort(stable=True)]
    same = (prompt[order][1:] == prompt[order][:-1]) & (shuffle[order][1:] == shuffle[order][:-1])
    if bool(same.any()):
        i = int(order[int(same.to(torch.int8).argmax())])
        raise ColumnError(f"group {int(group[i])}: two responses have one place in shuffle; give each its own")
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[prompt[order]]
    drawn = torch.zeros_like(names).scatter(0, low, counts)  # samples of every bundle
    sample = (drawn.cumsum(0) - drawn)[own] + rank
    whole = torch.zeros(len(score), dtype=torch.float64, device=score.device)
    for member in members(
        sample, group, size
    ).T:  # in the order of prompts: the sum is the same for every order of rows
        whole = whole + score.detach().double()[member][sample]
    return {**columns, "bundle_sample": sample, "bundle_score": whole}


def members(
    sample: Int[torch.Tensor, " n"], group: Int[torch.Tensor, " n"], size: int
) -> Int[torch.Tensor, "m {size}"]:
    """The rows of every bundle sample, in the order of their prompts."""
    order = group.argsort(stable=True)
    return order[sample[order].argsort(stable=True)].view(-1, size)


@PARTS.part(
    Kind.ADVANTAGE, reads=("score", "group", "bundle_sample", "bundle_advantages"), writes=("advantages",),
    unit=Unit.SEQUENCE, source="RTkenny/RiskPO, core_algos.py",
)  # fmt: skip
def share_credit(
    columns: Columns, *, credit: str = "sum_mean", size: int = 5, largest_share: float = 5.0,
    least_deviation: float = 1e-3, eps: float = 1e-6,
) -> Columns:  # fmt: skip
    """Advantages of responses from those of their bundle samples; settings and errors as in the reference.

    Reads ``score``, ``group``, ``bundle_sample``, ``bundle_advantages`` [n]; writes ``advantages`` [n].
    """
    check_credit(credit, largest_share, least_deviation, eps)
    score, group, sample, whole = need(columns, "score", "group", "bundle_sample", "bundle_advantages")
    score, whole = score.detach().double(), whole.detach().double()
    factor = torch.ones_like(score)
    if credit == "score":
        factor = torch.where(score > 0, 0.5, 1.5).double()
    elif credit in ("std", "sum_mean"):
        index, count = group_index(group, least=2 if credit == "std" else 1)
        centred = score - group_total(score, index) / count
        if credit == "std":
            spread = (group_total(centred * centred, index) / (count - 1)).sqrt()
            factor = 1 / torch.where(spread > least_deviation, spread + eps, torch.ones_like(spread))
        else:
            rows = members(sample, group, size)
            factor[rows] = shares(centred[rows], largest_share)
    return {**columns, "advantages": whole * factor}


def shares(centred: Float[torch.Tensor, "m B"], largest: float) -> Float[torch.Tensor, "m B"]:
    """``d_i / sum_j d_j`` in every row, equal shares where the sum is below 1e-6; bounded as in the reference."""
    size = centred.shape[1]
    total = centred.sum(1, keepdim=True)
    equal = torch.full_like(centred, 1 / size)  # numbers inside torch.where would be rounded to float32
    usable = total.abs() > NO_SUM
    away = torch.where(usable, centred / torch.where(usable, total, torch.ones_like(total)), equal) - equal
    room = largest - equal * away.sign()
    far = (away.abs() / room).amax(1, keepdim=True)  # 0 where the bound is inf
    return equal + away / far.clamp(min=1.0)


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
    if not (0 <= least_deviation < inf and 0 <= eps < inf):
        raise SettingError(f"least_deviation = {least_deviation}, eps = {eps}; both are finite and >= 0")
