"""Conjugate gradients in torch, one system for each replica."""

from __future__ import annotations

from collections.abc import Callable

import torch

from polytheory._typing import Float

CG_TOL = 1e-12  # of the residual, as a part of the right-hand side


def conjugate_gradients(
    apply: Callable[[Float[torch.Tensor, "*n d"]], Float[torch.Tensor, "*n d"]],
    b: Float[torch.Tensor, "*n d"],
    *,
    steps: int,
) -> Float[torch.Tensor, "*n d"]:
    """x with ``apply(x) = b`` nearly, from 0, system by system; see the reference. A system that has stopped stays as it is."""
    x, r, p = torch.zeros_like(b), b, b
    size = (r * r).sum(-1, keepdim=True)
    goal = CG_TOL**2 * size
    running = torch.ones_like(size, dtype=torch.bool)
    zero = torch.zeros_like(size)
    for _ in range(steps):
        Ap = apply(p)
        bend = (p * Ap).sum(-1, keepdim=True)
        running = running & (size > goal) & (bend > 0)
        if not bool(running.any()):
            break
        step = torch.where(running, size / torch.where(running, bend, zero + 1), zero)
        x, r = x + step * p, r - step * Ap
        new = (r * r).sum(-1, keepdim=True)
        p = torch.where(running, r + (new / torch.where(running, size, zero + 1)) * p, p)
        size = new
    return x
