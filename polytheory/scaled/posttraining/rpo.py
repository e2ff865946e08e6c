"""Regularised preference optimisation: DPO plus an SFT term, which is an adversarial regulariser.

Setting: preference pairs from a Bradley-Terry model, collected once and covering the responses only in part; a reference
policy ``ref``; a baseline policy ``base``, by default the law of the chosen responses. Against a reward class R the learner
looks for ``max_pi min_{r in R} eta E_{y ~ pi, y0 ~ base}[r(y) - r(y0) - beta KL(pi || ref)] + L_D(r)``, with L_D the mean
negative log-likelihood of the preferences (see `maximin`).

Loss: ``L = L_DPO + eta beta E_{y0 ~ base}[-log pi(y0)]`` [liu2024, eq. 4.8]. For every reward r and its Gibbs policy
``pi_r = ref exp(r / beta) / Z_r``: ``eta (beta log Z_r - E_base r) + L_D(r) = L(pi_r) + eta beta E_base log ref``, so that
minimising L over policies is minimising over rewards, and for a convex compact class its minimiser solves the maximin
problem [Theorem 4.2]. The optimal reward is ``beta log(pi / ref)`` up to a constant (the paper prints
``beta log pi / log ref``).

What the SFT term adds: a response that never occurs, whose DPO gradient is exactly 0 in its logit, gets
``eta beta pi(y) > 0``: its probability is pushed down. ``eta = 0`` is DPO, ``eta -> inf`` imitates ``base``.

References: [liu2024] Liu et al., Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial
Regularizer, NeurIPS 2024, arXiv 2405.16436.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.parts import Kind, Unit, need
from polytheory.scaled.posttraining.base import PARTS
from polytheory.scaled.posttraining.composition import Composition, Use
from polytheory.scaled.posttraining.pairs import check_positive
from polytheory.scaled.posttraining.pairs import dpo as dpo
from polytheory.scaled.posttraining.softmax import TabularSoftmax as TabularSoftmax
from polytheory.streams import row_ids, uniforms

Columns = dict[str, Any]
SCALINGS = ("cumulative", "sum", "average")


def implicit_reward(log_prob: Any, log_ref: Any, beta: Any) -> Any:
    """``beta log(pi / ref)`` of a response; operators only."""
    return beta * (log_prob - log_ref)


def sft_term(log_prob: Any, coefficient: Any) -> Any:
    """``-coefficient log pi(y0)``, to be minimised; operators only."""
    return -coefficient * log_prob


def sft_coefficient(eta: Any, beta: Any, length: Any, *, sft: str = "cumulative") -> Any:
    """What multiplies ``-log pi(y0)``, the sum over ``length`` tokens.

    "cumulative": ``eta beta``, eq. 4.8 and the released code of that name. "sum": ``eta``. "average": ``eta / length``, a
    mean over tokens with a coefficient of its own, not multiplied by beta. Raises `UnknownNameError`.
    """
    if sft not in SCALINGS:
        raise UnknownNameError("scaling of the SFT term", sft, SCALINGS)
    if sft == "average":
        return eta / length
    return eta * beta + 0 * length if sft == "cumulative" else eta + 0 * length


def base_rows(columns: Columns) -> Int[torch.Tensor, " m"]:
    """The row of the baseline response of every pair: column ``base`` [m] if it is there, else the chosen row.

    Raises `ColumnError` for a row that does not exist, or that has probability 0 under the reference policy.
    """
    mask, pairs, ref = need(columns, "mask", "pairs", "log_probs_ref")
    rows = pairs[:, 0] if columns.get("base") is None else columns["base"]
    if rows.shape != (len(pairs),) or (len(rows) and not (0 <= int(rows.min()) and int(rows.max()) < len(mask))):
        raise ColumnError(f"base must name one of {len(mask)} rows for each of {len(pairs)} pairs")
    outside = (mask & torch.isneginf(ref)).any(1)[rows]
    if bool(outside.any()):
        raise ColumnError(
            f"baseline row {int(rows[outside.to(torch.int64).argmax()])} has probability 0 under the reference policy: "
            "the loss is infinite; drop the row or take a reference that covers it"
        )
    return rows


@PARTS.part(
    Kind.LOSS, reads=("mask", "pairs", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.PAIR,
    source="liu2024, eq. 4.8",
)  # fmt: skip
def rpo(
    columns: Columns, *, beta: float = 0.1, eta: float = 0.005, sft: str = "cumulative"
) -> Float[torch.Tensor, " m"]:
    """``-log sigmoid(beta h) - c log pi(y0)`` of every pair [m]; y0 is the row of `base_rows`, c of `sft_coefficient`.

    Args:
        beta: strength of the KL regularisation, > 0, in units of the reward; the paper 0.01 and 0.05.
        eta: weight of the SFT term, >= 0; 0 is DPO to the bit. The released code 0.005 (cumulative), 0.2 (average).
        sft: "cumulative", "sum" or "average".

    Raises `SettingError`, `UnknownNameError`, `ColumnError`.
    """
    check_eta(eta)
    preference = dpo(columns, beta=beta)
    mask, now = need(columns, "mask", "log_probs")
    rows = base_rows(columns)
    wide = now.to(torch.promote_types(now.dtype, torch.float32))
    total = torch.where(mask, wide, torch.zeros_like(wide)).sum(1)
    # a row without tokens has log-prob 0, whatever its coefficient
    coefficient = sft_coefficient(eta, beta, mask.sum(1).clamp(min=1).to(wide.dtype), sft=sft)[rows]
    return preference + sft_term(total[rows], coefficient).to(preference.dtype)


@PARTS.part(Kind.SAMPLER, reads=("score", "group"), writes=("pairs",), unit=Unit.PAIR, source="liu2024, sec. 3")
def bradley_terry(columns: Columns, *, uniform: Float[torch.Tensor, " m"]) -> Columns:
    """Pairs of rows (2i, 2i + 1), the chosen one first: row 2i with probability ``sigmoid(R_2i - R_{2i+1})``."""
    score = columns["score"]
    gap = score[0::2] - score[1::2]
    first = uniform * (1 + torch.exp(-gap)) < 1
    rows = 2 * torch.arange(len(gap), device=score.device)
    return {
        **columns,
        "pairs": torch.stack([torch.where(first, rows, rows + 1), torch.where(first, rows + 1, rows)], dim=1),
    }


def check_eta(eta: float) -> None:
    """Raise `SettingError` unless 0 <= eta < inf."""
    if not 0 <= eta < np.inf:
        raise SettingError(f"eta = {eta}; the weight of the SFT term is >= 0 and finite, 0 is DPO, try 0.005")


@dataclass(frozen=True, eq=False)
class Rpo(Composition):
    """RPO on preferences that are collected once; further fields as in `Composition`.

    The first step draws ``prompts`` pairs from ``collector``, labels them by a Bradley-Terry model of the true reward, and
    keeps them in the state (``memory["data"]``). Nothing is sampled or asked after that: every step descends on them all.

    Fields:
        prompts: preference pairs N, >= 1. group_size: 2, a pair. rounds: 1.
        beta: strength of the KL regularisation, > 0, in units of the reward; the paper 0.01 and 0.05.
        eta: weight of the SFT term, >= 0; the released code 0.005 (cumulative) and 0.2 (average).
        sft: its scaling: "cumulative" ``eta beta sum``, "sum" ``eta sum``, "average" ``eta mean`` over tokens.
        collector: policy that the pairs are drawn from; None is the reference policy.
        baseline: policy that the SFT term imitates, one response a pair; None is the chosen responses.

    Raises `SettingError`, `UnknownNameError`.
    """

    prompts: int = 64
    group_size: int = 2
    beta: float = 0.1
    eta: float = 0.005
    sft: str = "cumulative"
    collector: Any = None
    baseline: Any = None

    name: ClassVar[str] = "rpo"
    GIVEN: ClassVar[tuple[str, ...]] = (*Composition.GIVEN, "pairs")

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        check_eta(self.eta)
        if self.sft not in SCALINGS:
            raise UnknownNameError("scaling of the SFT term", self.sft, SCALINGS)
        if self.group_size != 2 or self.rounds != 1:
            raise SettingError(f"group_size = {self.group_size}, rounds = {self.rounds}; pairs are drawn once: 2 and 1")
        super().__post_init__()

    def recipe(self) -> tuple[Use, ...]:
        """The loss; its pairs come with the data."""
        return (Use("rpo", {"beta": self.beta, "eta": self.eta, "sft": self.sft}),)

    def sample(self, state: Any, access: Any) -> Columns:
        """The data, replica-major: drawn in the first step, from the state afterwards."""
        if "data" not in state.memory[0]:
            return self.drawn(state, access)
        return {name: torch.cat([own["data"][name] for own in state.memory]) for name in state.memory[0]["data"]}

    def drawn(self, state: Any, access: Any) -> Columns:
        """Pairs with their labels, and the baseline's responses behind them; pairs name rows within a replica."""
        m, R = self.prompts, access.replicas
        columns = self._rollouts(state, access, self.collector or self.policy, np.arange(2 * m) // 2, "pairs")
        ids = torch.from_numpy(row_ids(state.replica.numpy(force=True).repeat(m), np.tile(np.arange(m), R)))
        uniform = uniforms(state.seed, f"{self.name}/labels", 0, ids.to(columns["mask"].device), 1)[:, 0]
        # rows 2i and 2i + 1 of all replicas are pairs; their names start anew in each replica
        pairs = bradley_terry(columns, uniform=uniform)["pairs"] % (2 * m)
        if self.baseline is None:
            return {**columns, "pairs": pairs}
        more = self._rollouts(state, access, self.baseline, np.arange(m), "baseline")
        joined = {}
        for name, x in columns.items():
            pieces = [x.view(R, -1, *x.shape[1:]), more[name].view(R, -1, *x.shape[1:])]
            joined[name] = torch.cat(pieces, dim=1).flatten(0, 1)
        return {**joined, "pairs": pairs, "base": 2 * m + torch.arange(m, device=pairs.device).repeat(R)}

    def _rollouts(self, state: Any, access: Any, policy: Any, group: Int[np.ndarray, " n"], what: str) -> Columns:
        n, R = len(group), access.replicas
        ids = row_ids(state.replica.numpy(force=True).repeat(n), np.tile(np.arange(n), R))
        traj = access.rollouts(policy, Requests(ids, access.spec.horizon), Key(state.seed, f"{self.name}/{what}", 0))
        return {
            "states": traj.states, "actions": traj.actions, "mask": traj.mask, "score": traj.rewards.sum(1),
            "group": torch.from_numpy(np.tile(group, R)).to(traj.mask.device),
        }  # fmt: skip

    def prepare(self, columns: Columns, memory: dict[str, Any]) -> tuple[Columns, dict[str, Any]]:
        """Keep the data; what the reference policy says of them is computed anew."""
        kept = ("states", "actions", "mask", "score", "group", "pairs", "base")
        # copies: the rows are views of all replicas' tensors
        return columns, {**memory, "data": {name: columns[name].clone() for name in kept if name in columns}}

    def report(self, replicas: Sequence[Columns], theta: Float[torch.Tensor, "R d"]) -> Info:
        """Mean log-probs of chosen and rejected responses, mean reward margin, share of pairs ordered right."""
        found = []
        for i, columns in enumerate(replicas):
            with torch.no_grad():
                total = self.log_probs(columns, theta[i : i + 1]).sum(1)
            reward = implicit_reward(total, columns["log_probs_ref"].sum(1), self.beta)
            chosen, rejected = columns["pairs"].T
            margin = reward[chosen] - reward[rejected]
            found.append([total[chosen].mean(), total[rejected].mean(), margin.mean(), (margin > 0).double().mean()])
        names = ("chosen_log_prob", "rejected_log_prob", "reward_margin", "accuracy")
        return {
            name: np.array([float(x) for x in column])
            for name, column in zip(names, zip(*found, strict=True), strict=True)
        }
