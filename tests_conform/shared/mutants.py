"""Wrong versions of a framework's numbers and of its functions, which the table must notice."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import torch

from polytheory.conformance.contract import Batch

AMOUNT = 1e-9  # far above what `differences` lets pass for the table's numbers, far below what the page shows


def shifted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The value (or one advantage) a little off, the gradient right."""

    def wrong(batch: Batch, **settings: Any) -> torch.Tensor:
        out = function(batch, **settings)
        off = AMOUNT * (1 + out.detach().abs().max())
        if not out.ndim:
            return out + off
        out = out.clone()
        out.view(-1)[int(batch.mask.reshape(-1).long().argmax()) if out.ndim == 2 else 0] += off
        return out

    return wrong


def tilted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient in one log-prob a little off, the value right."""

    def wrong(batch: Batch, **settings: Any) -> torch.Tensor:
        out = function(batch, **settings)
        one = batch.log_probs[batch.mask][0]
        return out + 1e3 * AMOUNT * (one - one.detach()) if not out.ndim else out

    return wrong


def rewritten(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """A function with a piece of its source replaced. Raises `AssertionError` unless the piece is there."""
    function = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(function))
    assert old in source, f"{function.__qualname__} has no {old!r}"
    source = source.replace(old, new)
    source = source[source.index("def ") :]  # without decorators
    space = dict(vars(sys.modules[function.__module__]))
    exec(compile(source, f"<{function.__name__} mutant>", "exec"), space)
    return space[function.__name__]
