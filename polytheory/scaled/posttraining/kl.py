"""Estimates of the KL divergence to the reference policy in torch, as losses of tokens and as rewards.

With ``d = log pi - log ref`` (clamped to [-20, 20]) under samples of pi, differentiated as an on-policy loss:

========  =====================  ===================  ================================
estimate  value                  mean                 mean gradient of a token's state
========  =====================  ===================  ================================
k1        d                      KL(pi || ref)        0
k2        d^2 / 2                not the KL           grad KL(pi || ref)
k3        exp(-d) + d - 1        KL(pi || ref)        grad KL(ref || pi)
rho k3    rho (exp(-d) + d - 1)  KL(pi || ref)        grad KL(pi || ref)
========  =====================  ===================  ================================

Sums over tokens hold the states visited fixed; the gradient of the KL between sequence laws also needs the effect of a token
on later ones, which `kl_in_reward` has. [schulman2020, Approximating KL Divergence]
"""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.parts import Kind, Unit, need
from polytheory.rollouts import MAX_LOG_RATIO
from polytheory.scaled.posttraining.base import PARTS
from polytheory.scaled.posttraining.losses import over_tokens, token_log_ratio, token_ratio

Columns = dict[str, Any]


def k1(d: Any) -> Any:
    """``d``."""
    return d


def k2(d: Any) -> Any:
    """``d^2 / 2``."""
    return d * d / 2


def k3(d: Any, expm1: Any) -> Any:
    """``exp(-d) - 1 + d``, never negative; operators only. ``expm1`` keeps the digits of a small d."""
    return expm1(-d) + d


@PARTS.part(
    Kind.LOSS, reads=("mask", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.TOKEN, source="schulman2020"
)
def kl_k1(columns: Columns) -> Float[torch.Tensor, "n t"]:
    """k1 of every token: the right value, and as an on-policy loss no gradient in the mean."""
    return k1(_gap(columns))


@PARTS.part(
    Kind.LOSS, reads=("mask", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.TOKEN, source="schulman2020"
)
def kl_k2(columns: Columns) -> Float[torch.Tensor, "n t"]:
    """k2 of every token: the right gradient on policy, another value."""
    return k2(_gap(columns))


@PARTS.part(
    Kind.LOSS, reads=("mask", "log_probs", "log_probs_ref"), now=("log_probs",), unit=Unit.TOKEN,
    source="shao2024, eq. 4",
)  # fmt: skip
def kl_k3(columns: Columns) -> Float[torch.Tensor, "n t"]:
    """k3 of every token: the right value, and the gradient of the *forward* KL(ref || pi) on policy."""
    return k3(_gap(columns), torch.expm1)


@PARTS.part(
    Kind.LOSS, reads=("mask", "log_probs", "log_probs_ref", "log_probs_old"), now=("log_probs",), unit=Unit.TOKEN,
    source="deepseek2025 (V3.2, unbiased KL estimate)",
)  # fmt: skip
def kl_rho_k3(columns: Columns) -> Float[torch.Tensor, "n t"]:
    """k3 times the differentiable ratio to the old policy: right value and right gradient, also off policy."""
    return token_ratio(columns, "log_probs_old") * k3(_gap(columns), torch.expm1)


@PARTS.part(
    Kind.ADVANTAGE, reads=("mask", "advantages", "log_probs_old", "log_probs_ref"), writes=("advantages",),
    unit=Unit.TOKEN, source="ziegler2019, eq. 2 (reward to go)",
)  # fmt: skip
def kl_in_reward(columns: Columns, *, beta: float = 0.05) -> Columns:
    """Advantages [n] or [n, t] less ``beta`` times the k1 still to come: ``A_t - beta sum_{u >= t} d_u`` [n, t].

    With a loss that sums over tokens this gives ``-beta grad KL`` of whole sequences exactly. ``beta`` >= 0, in units of
    the advantage; d is that of the policy that sampled, ``log_probs_old``. Raises `SettingError`.
    """
    mask, advantages = need(columns, "mask", "advantages")
    to_go = _sampled_gap(columns, beta).flip(1).cumsum(1).flip(1)
    return {**columns, "advantages": over_tokens(over_tokens(advantages, mask) - beta * to_go, mask)}


@PARTS.part(
    Kind.REWARD_TRANSFORM, reads=("mask", "score", "log_probs_old", "log_probs_ref"), writes=("score",),
    unit=Unit.SEQUENCE, source="ahmadian2024, sec. 2",
)  # fmt: skip
def kl_in_score(columns: Columns, *, beta: float = 0.05) -> Columns:
    """Scores [n] less ``beta`` times the k1 of the whole sequence, before any baseline; ``beta`` >= 0."""
    (score,) = need(columns, "score")
    return {**columns, "score": score - beta * _sampled_gap(columns, beta).sum(1)}


def _sampled_gap(columns: Columns, beta: float) -> Float[torch.Tensor, "n t"]:
    if not beta >= 0:
        raise SettingError(f"beta = {beta}; a KL coefficient is >= 0")
    mask, old, ref = need(columns, "mask", "log_probs_old", "log_probs_ref")
    return (over_tokens(old, mask) - over_tokens(ref, mask)).detach().double()


def _gap(columns: Columns) -> Float[torch.Tensor, "n t"]:
    """d, clamped."""
    return token_log_ratio(columns, "log_probs_ref").clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
