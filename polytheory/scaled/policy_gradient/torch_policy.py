"""Any torch module that maps observations to action logits, as a policy with flat parameters (one replica)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.func import functional_call, grad, jvp, vmap

from polytheory._typing import Float, Int, Shaped
from polytheory.errors import PolicyError
from polytheory.policies import Memoryless


class TorchPolicy(Memoryless):
    """Categorical policy whose logits come from ``module(observations)``.

    ``with_theta`` never touches the module: log-probabilities at other parameters are computed with
    `torch.func.functional_call`. ``at`` does put parameters into the module, for samplers that only know the module,
    and always restores them. The module must be deterministic (no dropout) and treat rows independently.

    Args:
        module: maps observations [m, *obs] to logits [m, A].
        theta: flat parameters [1, d] in the order of ``module.parameters()``; default: the module's own, as a copy.
        forward_mode: False where a layer lacks a forward-mode rule; Hessian-vector products then take two more
            backward passes.

    Raises `PolicyError` when the module has no trainable parameter or ``theta`` does not fit.
    """

    replicas = 1
    closed_form = False

    def __init__(
        self, module: torch.nn.Module, theta: Float[torch.Tensor, "1 d"] | None = None, *, forward_mode: bool = True
    ):
        self.module, self.forward_mode = module, forward_mode
        self._params = {k: p for k, p in module.named_parameters() if p.requires_grad}
        size = sum(p.numel() for p in self._params.values())
        if size == 0:
            raise PolicyError("the module has no parameter that requires a gradient; unfreeze some")
        if theta is None:
            theta = flat_parameters(self._params.values())[None]
        if theta.shape[1] != size:
            raise PolicyError(
                f"the module has {size} trainable parameters; theta must be [1, {size}], got {list(theta.shape)}"
            )
        self.theta = theta

    def with_theta(self, theta: Float[torch.Tensor, "1 d"]) -> TorchPolicy:
        """The same module at other parameters; the module's own weights stay as they are."""
        return TorchPolicy(self.module, theta, forward_mode=self.forward_mode)

    def __call__(self, state: Any) -> TorchPolicy:
        """The policy at the parameters of a state."""
        return self.with_theta(state.theta)

    @contextmanager
    def at(self, theta: Float[torch.Tensor, "1 d"]) -> Iterator[TorchPolicy]:
        """Put ``theta`` into the module inside the block; restore the old weights whatever happens in it."""
        policy = self.with_theta(theta)  # checks the size before anything is moved
        with parameters_at(self._params.values(), theta[0]):
            yield policy

    def commit(self) -> None:
        """Write ``theta`` into the module for good (after training)."""
        load_parameters(self._params.values(), self.theta[0])

    def logits(self, observations: Shaped[torch.Tensor, m * obs]) -> Float[torch.Tensor, "m A"]:
        """Action logits at ``theta``, differentiable in it."""
        first = next(iter(self._params.values()))
        observations = observations.to(first if observations.is_floating_point() else first.device)
        return functional_call(self.module, self._split(), (observations,))

    def probs(self, m: Any, h: int, s: Shaped[torch.Tensor, n * obs]) -> Float[torch.Tensor, "n A"]:
        """Action probabilities, float64."""
        with torch.no_grad():
            return torch.softmax(self.logits(s).double(), dim=-1)

    def log_probs(
        self, states: Shaped[torch.Tensor, "n t *obs"], actions: Int[torch.Tensor, "n t"]
    ) -> Float[torch.Tensor, "n t"]:
        """Log-probabilities of actions in the module's dtype, differentiable in ``theta``."""
        logits = self.logits(states.flatten(0, 1))
        return torch.log_softmax(logits, dim=-1).gather(1, actions.to(logits.device).reshape(-1, 1)).view(actions.shape)

    def directional(
        self, states: Shaped[torch.Tensor, "n t *obs"], actions: Int[torch.Tensor, "n t"], u: Float[torch.Tensor, "1 d"]
    ) -> Float[torch.Tensor, "n t"]:
        """``score . u`` for every step, by forward mode: no backward pass per sample."""
        return jvp(lambda theta: self.with_theta(theta).log_probs(states, actions), (self.theta,), (u,))[1]

    def score_sum(
        self,
        states: Shaped[torch.Tensor, "n t *obs"],
        actions: Int[torch.Tensor, "n t"],
        weights: Float[torch.Tensor, "n t"],
    ) -> Float[torch.Tensor, "n d"]:
        """``sum_t weights_t score_t`` for every row: memory n * d; methods use batch means instead."""
        return vmap(grad(self._weighted), (None, 0, 0, 0))(self.theta, states, actions, weights)[:, 0]

    def hvp_sum(
        self,
        states: Shaped[torch.Tensor, "n t *obs"],
        actions: Int[torch.Tensor, "n t"],
        weights: Float[torch.Tensor, "n t"],
        u: Float[torch.Tensor, "1 d"],
    ) -> Float[torch.Tensor, "n d"]:
        """``sum_t weights_t (hess log pi) u`` for every row: memory n * d; methods use batch means instead."""

        def one(s, a, w):
            return jvp(lambda theta: grad(self._weighted)(theta, s, a, w), (self.theta,), (u,))[1]

        return vmap(one)(states, actions, weights)[:, 0]

    def _weighted(self, theta, s, a, w):
        return (self.with_theta(theta).log_probs(s[None], a[None])[0] * w.to(theta.dtype)).sum()

    def _split(self) -> dict[str, torch.Tensor]:
        pieces = self.theta[0].split([p.numel() for p in self._params.values()])
        return {k: x.view_as(p) for (k, p), x in zip(self._params.items(), pieces, strict=True)}


def flat_parameters(params: Any) -> Float[torch.Tensor, " d"]:
    """A detached copy of parameters as one vector."""
    return torch.cat([p.detach().reshape(-1) for p in params])


@contextmanager
def parameters_at(params: Any, theta: Float[torch.Tensor, " d"]) -> Iterator[None]:
    """Put a flat vector into parameters inside the block; restore them exactly whatever happens in it."""
    params = list(params)
    before = flat_parameters(params)
    try:
        load_parameters(params, theta)
        yield
    finally:
        load_parameters(params, before)


def load_parameters(params: Any, theta: Float[torch.Tensor, " d"]) -> None:
    """Write a flat vector into parameters, in place."""
    params = list(params)
    with torch.no_grad():
        for p, x in zip(params, theta.split([p.numel() for p in params]), strict=True):
            p.copy_(x.view_as(p))
