"""HARPG's second batch on a causal language model, and two ways to multiply its Hessian with a vector.

With ``l_i`` the log-prob of completion i and ``A_i`` its advantage, the Hessian of the expected loss is the mean of
``-A_i (hess l_i + grad l_i grad l_i^T)``, which is that of ``mean_i -A_i exp(l_i - stopgrad(l_i))``: no work per completion,
and sums over micro-batches are those of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.rollouts import checked
from polytheory.scaled.policy_gradient.torch_policy import flat_parameters, parameters_at
from polytheory.scaled.posttraining.updates import ratio_surrogate
from polytheory.streams import row_ids, subseed, uniforms

PILOT = 64  # completions whose slopes say how far a difference goes
Columns = dict[str, Any]
Params = Sequence[torch.Tensor]


def second_batch(trainer: Any, state: Any, access: Any) -> dict[str, float]:
    """Sample between the last two weights and leave the change of the gradient in the optimiser; its norm.

    Nothing is sampled at the first step. Weights and gradients of the model are as before afterwards. Random numbers are
    those of `polytheory.scaled.posttraining.updates.Harpg`.
    """
    optimizer, name = state.optimizer, trainer.method.name
    params: Params = optimizer.params
    if optimizer.t == 0:
        return {}
    q = float(uniforms(state.seed, f"{name}/q", state.t, row_ids(state.replica, np.arange(1)), 1)[0, 0])
    u = optimizer.theta - optimizer.theta_prev
    held = [p.grad for p in params]
    optimizer.zero_grad()
    # a seed of its own: the second batch is independent of the first
    hat = replace(state, seed=subseed(state.seed, f"{name}/tau_hat"))
    with optimizer.between(q):
        sampled, _ = trainer.sample(hat, access)
        columns, _ = trainer.method.prepare(checked(trainer.scored(sampled, hat)), state.memory)
        if len(columns["mask"]):
            passes = [part for (part, _), own in trainer.dealt(columns) if own]
            PRODUCTS[trainer.optimiser.hvp](trainer.policy(state), columns, passes, params, u)
            trainer.processes.sum_gradients(params)
    # an objective rises where its loss falls
    optimizer.v = -torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in params])
    for p, g in zip(params, held, strict=True):
        p.grad = g
    return {"harpg/difference_norm": float(torch.linalg.vector_norm(optimizer.v))}


def exact(
    policy: Any, columns: Columns, passes: Iterable[Columns], params: Params, u: Float[torch.Tensor, " d"]
) -> None:
    """The Hessian of ``columns`` at these weights times ``u``, what ``passes`` give of it added to the gradients, by going back
    twice through all logits.

    Raises `SettingError` for an attention without a second derivative.
    """
    check_twice_differentiable(policy.model)
    policy = replace(policy, route="naive")
    pieces = [x.view_as(p) for x, p in zip(u.split([p.numel() for p in params]), params, strict=True)]
    for part in passes:
        loss = ratio_surrogate(policy.log_probs(part), part["advantages"]) * (len(part["mask"]) / len(columns["mask"]))
        slopes = torch.autograd.grad(loss, list(params), create_graph=True, allow_unused=True)
        along = [(s * x).sum() for s, x in zip(slopes, pieces, strict=True) if s is not None]
        torch.stack(along).sum().backward(inputs=list(params))


def difference(
    policy: Any, columns: Columns, passes: Iterable[Columns], params: Params, u: Float[torch.Tensor, " d"]
) -> None:
    """As `exact`, by a central difference of two gradients.

    The completions stay those of these weights: the gradient at ``theta +- h u / |u|`` weighs row i by
    ``exp(l_i - l_i(sampler))``. Any attention and any route of log-probs will do. `spacing` says what h is.

    Raises `SettingError` for weights of less than single precision, in which neighbours cannot be told apart.
    """
    norm = float(torch.linalg.vector_norm(u))
    if norm == 0:
        return
    theta, passes = flat_parameters(params), list(passes)
    h = spacing(policy, {name: x[:PILOT] for name, x in columns.items()}, params, theta, u / norm)
    for sign in (1, -1):
        with parameters_at(params, theta + (sign * h / norm) * u):
            for part in passes:
                now = policy.log_probs(part)
                advantages = part["advantages"] * moved(now, part).exp()
                loss = ratio_surrogate(now, advantages) * (len(part["mask"]) / len(columns["mask"]))
                loss.backward(inputs=list(params))
        for p in params:
            if p.grad is not None:  # minus the gradient below, after both
                p.grad.mul_(-1 if sign == 1 else -norm / (2 * h))


def moved(now: Float[torch.Tensor, "n t"], part: Columns) -> Float[torch.Tensor, " n"]:
    """How far the log-probs of completions are from those at which they were sampled, float64, without a gradient."""
    return now.detach().double().sum(1) - part["log_probs_sampler"].double().sum(1)


@torch.no_grad()
def spacing(
    policy: Any, part: Columns, params: Params, theta: Float[torch.Tensor, " d"], direction: Float[torch.Tensor, " d"]
) -> float:
    """How far a central difference goes along a unit ``direction``: ``(3 eps)^(1/3) L``, L the length over which the gradient
    changes, eps that of float32 (transformers takes norms and rotations in it whatever the weights are).

    A difference over h is off by about ``h^2 / (6 L^2)`` of itself through truncation and by ``eps L / h`` through rounding;
    the spacing minimises their sum [nocedal2006, section 8.1]. Row i carries the factor ``exp(l_i(h) - l_i(0))``, whose own
    length is ``1 / |dl_i/dh|``: L is the inverse of the root mean square of these slopes, found by a forward pass of some
    rows, and ``1 + |theta|``, the length of the textbook, where that is less. Slopes of a transformer differ a hundredfold
    between a random direction and that of its steps: the textbook's length alone is of no use.

    References: [nocedal2006] Nocedal and Wright, Numerical Optimization, 2nd edition, 2006.
    """
    eps = torch.finfo(torch.float32).eps
    if torch.finfo(theta.dtype).eps > eps:
        raise SettingError(
            f"hvp = 'difference' with weights in {str(theta.dtype).removeprefix('torch.')}: differences vanish in rounding; "
            "use float32, or hvp = 'exact'"
        )
    longest = 1 + float(torch.linalg.vector_norm(theta))
    ahead = eps**0.5 * longest  # of a one-sided difference, enough for the size of a slope
    with parameters_at(params, theta + ahead * direction):
        slope = float(moved(policy.log_probs(part), part).square().mean().sqrt()) / ahead
    return (3 * eps) ** (1 / 3) / max(slope, 1 / longest)


def check_twice_differentiable(model: Any) -> None:
    """Raise `SettingError` for a transformers model whose attention is not "eager"."""
    kind = getattr(getattr(model, "config", None), "_attn_implementation", "eager")
    if kind != "eager":
        raise SettingError(
            f"hvp = 'exact' with {kind!r} attention, which has no second derivative; load the model with eager attention, or "
            "use hvp = 'difference'"
        )


PRODUCTS = {"exact": exact, "difference": difference}
