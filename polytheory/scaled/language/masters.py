"""float32 masters of weights in bfloat16: the optimiser moves the masters, and the model holds them rounded.

A bfloat16 has 8 significant bits: a step of less than 1/512 of a weight is rounded away, and a learning rate of 1e-6 would
change nothing at all. Gradients of several micro-batches and processes are summed in float32 too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Masters:
    """An optimiser over float32 copies of ``parameters``, with the face of a torch optimiser.

    Args:
        parameters: trained ones of any dtype; each gets a master.
        make: the optimiser of the masters.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], make: Callable[[list[Any]], torch.optim.Optimizer]):
        self.rounded = list(parameters)
        self.params = [torch.nn.Parameter(p.detach().float()) for p in self.rounded]
        self.optimizer = make(self.params)
        self.kept: Callable[[Any], Any] = lambda x: x  # see `sharding.shard_optimizer`
        self.like: Callable[[Any, Any], Any] = lambda x, p: x
        for narrow, wide in zip(self.rounded, self.params, strict=True):
            narrow.register_post_accumulate_grad_hook(lambda p, wide=wide: _move_gradient(p, wide))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the inner optimiser: the masters, with their gradients."""
        self.collect()
        return self.optimizer.param_groups

    def collect(self) -> None:
        """Take over gradients that were written without a backward pass through the parameter, as sharding does."""
        for narrow, wide in zip(self.rounded, self.params, strict=True):
            _move_gradient(narrow, wide)

    @torch.no_grad()
    def step(self) -> None:
        """Move the masters, and round them into the model."""
        self.optimizer.step()
        self._round()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients."""
        for p in (*self.rounded, *self.params):
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The inner optimiser's state, and the masters."""
        return {"optimizer": self.optimizer.state_dict(), "masters": [self.kept(p.detach()) for p in self.params]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        for p, x in zip(self.params, state["masters"], strict=True):
            p.copy_(self.like(x, p))
        self._round()

    def _round(self) -> None:
        for narrow, wide in zip(self.rounded, self.params, strict=True):
            narrow.data.copy_(wide.data)


def over(parameters: Iterable[torch.Tensor], make: Callable[[list[Any]], torch.optim.Optimizer]) -> Any:
    """``make(trained parameters)``, over masters where any of them has less than single precision."""
    trained = [p for p in parameters if p.requires_grad]
    narrow = any(torch.finfo(p.dtype).eps > torch.finfo(torch.float32).eps for p in trained)
    return Masters(trained, make) if narrow else make(trained)


@torch.no_grad()
def _move_gradient(narrow: torch.Tensor, wide: torch.Tensor) -> None:
    if narrow.grad is not None:
        g = narrow.grad.float()
        wide.grad = g if wide.grad is None else wide.grad.add_(g)
        narrow.grad = None
