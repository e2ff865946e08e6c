"""Targets, losses and laws of the off-policy learners, each a formula of its own.

References: [haarnoja2018] Soft Actor-Critic, ICML 2018, and its second version arXiv:1812.05905. [vanhasselt2016] Deep
Reinforcement Learning with Double Q-learning, AAAI 2016. [zouitine2024] as in `deep_iwocs`.
"""

from __future__ import annotations

import math

import torch

from polytheory._typing import Bool, Float, Int

LOG_STD = (-5.0, 2.0)  # of the actor's Gaussian


def bootstrapped(
    r: Float[torch.Tensor, " n"], goes_on: Bool[torch.Tensor, " n"], v: Float[torch.Tensor, " n"], gamma: float
) -> Float[torch.Tensor, " n"]:
    """``r + gamma v`` where the episode goes on, ``r`` where it ended (an episode that was cut goes on)."""
    return r + gamma * torch.where(goes_on, v, 0.0)


def double_q_value(
    online: Float[torch.Tensor, "2 n A"], target: Float[torch.Tensor, "2 n A"]
) -> Float[torch.Tensor, " n"]:
    """Smaller target value of the action that the online critics like best [vanhasselt2016]."""
    best = online.amin(0).argmax(-1, keepdim=True)
    return target.amin(0).gather(-1, best)[:, 0]


def entropic_value(
    q: Float[torch.Tensor, "2 n"], log_p: Float[torch.Tensor, " n"], alpha: float
) -> Float[torch.Tensor, " n"]:
    """``min q - alpha log p`` of a sampled action [haarnoja2018]."""
    return q.amin(0) - alpha * log_p


def plain_value(q: Float[torch.Tensor, "2 n"]) -> Float[torch.Tensor, " n"]:
    """``min q`` of a sampled action: the critics that the search compares carry no entropy [zouitine2024, section 5]."""
    return q.amin(0)


def critic_loss(q: Float[torch.Tensor, "k n"], y: Float[torch.Tensor, "k n"]) -> Float[torch.Tensor, ""]:
    """Squared errors, mean over the batch, sum over the critics."""
    return ((q - y) ** 2).mean(-1).sum()


def actor_loss(
    q: Float[torch.Tensor, "2 n"], log_p: Float[torch.Tensor, " n"], alpha: float
) -> Float[torch.Tensor, ""]:
    """``E alpha log p - min q`` with the action's gradient through both [haarnoja2018]."""
    return (alpha * log_p - q.amin(0)).mean()


def temperature_gradient(log_p: Float[torch.Tensor, " n"], entropy: float, alpha: float) -> float:
    """Derivative by ``log alpha`` of ``-alpha E (log p + entropy)``: alpha rises while the entropy is below the wanted
    one."""
    return -alpha * float(log_p.mean() + entropy)


def gaussian_of(out: Float[torch.Tensor, "n two_k"]) -> tuple[Float[torch.Tensor, "n k"], Float[torch.Tensor, "n k"]]:
    """Mean and log of the standard deviation from the actor's outputs; the log lies in `LOG_STD`."""
    mean, raw = out.chunk(2, -1)
    low, high = LOG_STD
    return mean, low + 0.5 * (high - low) * (torch.tanh(raw) + 1)


def squashed(
    mean: Float[torch.Tensor, "n k"], log_std: Float[torch.Tensor, "n k"], z: Float[torch.Tensor, "n k"]
) -> tuple[Float[torch.Tensor, "n k"], Float[torch.Tensor, " n"]]:
    """Action ``tanh(mean + std z)`` and the log of its density, for standard normal ``z``.

    ``log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2x))`` keeps the density finite near +-1.
    """
    x = mean + log_std.exp() * z
    normal = -0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)
    slope = 2 * (math.log(2) - x - torch.nn.functional.softplus(-2 * x))
    return torch.tanh(x), (normal - slope).sum(-1)


def smallest_of_all(
    q: Float[torch.Tensor, "J n A"], valid: Bool[torch.Tensor, "J n"]
) -> tuple[Int[torch.Tensor, " n"], Float[torch.Tensor, " n"]]:
    """Best action of the smallest action values among the valid critics, and that value [zouitine2024, Algorithm 1]."""
    value, action = torch.where(valid[..., None], q, torch.inf).amin(0).max(-1)
    return action, value


def smallest_of_own(
    q: Float[torch.Tensor, "J n"], actions: Float[torch.Tensor, "J n k"], valid: Bool[torch.Tensor, "J n"]
) -> tuple[Float[torch.Tensor, "n k"], Float[torch.Tensor, " n"]]:
    """The action of the valid actor whose own critic values it least, and that value [zouitine2024, section 5]."""
    value, j = torch.where(valid, q, torch.inf).min(0)
    return actions[j, torch.arange(len(j))], value
