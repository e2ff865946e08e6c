"""Worst laws of polyhedral sets in torch, batched over any leading axes; the theorems stand in the reference.

Values ``z [..., n]`` and nominal laws ``p [..., n]`` broadcast; for a sparse model n counts the successors of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from polytheory._typing import Float


class Worst(NamedTuple):
    """``value`` [...] of the worst case; a ``law`` [..., n] that attains it; ``gap`` [...] to a dual bound, >= 0."""

    value: Float[torch.Tensor, "*k"]
    law: Float[torch.Tensor, "*k n"]
    gap: Float[torch.Tensor, "*k"]


def worst_l1(
    z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], radius: float, *, support: str = "full"
) -> Worst:
    """Laws with ``sum |q - p| <= radius``: probability moves from the best outcomes to the worst one."""
    z, p = torch.broadcast_tensors(z, p)
    worst = receivers(z, p, support).argmin(-1, keepdim=True)
    z_min, own = z.gather(-1, worst), p.gather(-1, worst)
    moved = (1 - own).clamp(max=radius / 2)
    donors = p.scatter(-1, worst, 0.0)
    sorted_z, best_first = z.sort(dim=-1, descending=True, stable=True)
    stock = donors.gather(-1, best_first)
    before = stock.cumsum(-1) - stock
    taken = torch.minimum((moved - before).clamp(min=0), stock)
    law = p.scatter(-1, best_first, p.gather(-1, best_first) - taken)
    law = law.scatter(-1, worst, own + taken.sum(-1, keepdim=True))
    # the last donor's value; the largest one when nothing moved, the smallest when everything has
    last = z.shape[-1] - 1 - (taken.flip(-1) > 0).int().argmax(-1, keepdim=True)
    caps = [torch.maximum(a, z_min) for a in (sorted_z.gather(-1, last), sorted_z[..., :1], z_min)]
    dual = torch.stack([(p * torch.minimum(z, a)).sum(-1) - radius / 2 * (a - z_min)[..., 0] for a in caps]).amax(0)
    value = (law * z).sum(-1)
    return Worst(value, law, (value - dual).abs())


def receivers(
    z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], support: str
) -> Float[torch.Tensor, "*k n"]:
    """``z``, infinite where nature may put no probability."""
    return z if support == "full" else z.masked_fill(p <= 0, torch.inf)


def worst_interval(
    z: Float[torch.Tensor, "*k n"], low: Float[torch.Tensor, "*k n"], high: Float[torch.Tensor, "*k n"]
) -> Worst:
    """Laws with ``low <= q <= high``: fill up from the worst outcome."""
    z, low, high = torch.broadcast_tensors(z, low, high)
    sorted_z, worst_first = z.sort(dim=-1, stable=True)
    room = (high - low).gather(-1, worst_first)
    before = room.cumsum(-1) - room
    left = 1 - low.sum(-1, keepdim=True)
    given = torch.minimum((left - before).clamp(min=0), room)
    law = low.scatter(-1, worst_first, low.gather(-1, worst_first) + given)
    last = (before + room >= left).int().argmax(-1, keepdim=True)
    c = sorted_z.gather(-1, last)
    dual = c[..., 0] + (low * (z - c).clamp(min=0) - high * (c - z).clamp(min=0)).sum(-1)
    value = (law * z).sum(-1)
    return Worst(value, law, (value - dual).abs())


def worst_linf(z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], radius: float) -> Worst:
    """Laws with ``max |q - p| <= radius``."""
    return worst_interval(z, (p - radius).clamp(min=0), (p + radius).clamp(max=1))


def worst_contamination(
    z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], radius: float, *, support: str = "full"
) -> Worst:
    """``(1 - radius) p + radius mu``: all that nature adds goes to the worst outcome."""
    z, p = torch.broadcast_tensors(z, p)
    worst = receivers(z, p, support).argmin(-1, keepdim=True)
    law = (1 - radius) * p
    law = law.scatter(-1, worst, law.gather(-1, worst) + radius)
    value = (1 - radius) * (p * z).sum(-1) + radius * z.gather(-1, worst)[..., 0]
    return Worst(value, law, (value - (law * z).sum(-1)).abs())


def worst_scenario(z: Float[torch.Tensor, "*k n"], laws: Float[torch.Tensor, "N *m n"]) -> Worst:
    """The worst of finitely many laws; ``laws[N]`` line up with the last axes of ``z``."""
    z = z.unsqueeze(-laws.ndim)
    values = (laws * z).sum(-1)
    axis = -(laws.ndim - 1)
    value, chosen = values.min(axis)
    wide = laws.expand(*torch.broadcast_shapes(laws.shape, z.shape))
    index = chosen.unsqueeze(axis)[..., None].expand(
        *values.shape[: values.ndim + axis], 1, *wide.shape[wide.ndim + axis :]
    )
    law = wide.gather(axis - 1, index).squeeze(axis - 1)
    return Worst(value, law, torch.zeros_like(value))


def worst_transport(
    z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], cost: Float[torch.Tensor, "n n"], radius: float
) -> Worst:
    """Laws to which ``p`` can be moved at a cost of at most ``radius``, by halving the price of transport.

    The dual ``sum_x p_x min_y (z_y + l cost[x, y]) - l radius`` is concave in the price l; its slope is what the
    cheapest of the best plans spends, less the budget. The plans on both sides of the best price are mixed so that the
    budget is spent.
    """
    z, p = torch.broadcast_tensors(z, p)
    lead, n = z.shape[:-1], z.shape[-1]
    z, p = z.reshape(-1, n), p.reshape(-1, n)
    positive = cost[cost > 0]
    spread = z.amax(-1) - z.amin(-1)
    high = spread / positive.min() if positive.numel() else spread
    low, high = torch.zeros_like(high), 2 * high + torch.finfo(z.dtype).tiny

    def plan(price: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        to = (z[:, None, :] + price[:, None, None] * cost).argmin(-1)  # [rows, x]
        return to, (p * cost.gather(-1, to.T).T).sum(-1)

    # without a price ties go to the nearest of the worst outcomes
    nearest = torch.where(z[:, None, :] == z.amin(-1)[:, None, None], cost, torch.inf).min(-1)
    enough = (p * nearest.values).sum(-1) <= radius
    for _ in range(200):
        middle = (low + high) / 2
        if bool(((middle == low) | (middle == high)).all()):
            break
        affordable = plan(middle)[1] <= radius
        low, high = torch.where(affordable, low, middle), torch.where(affordable, middle, high)
    (cheap, less), (far, more) = plan(high), plan(low)
    share = torch.where(more > less, (radius - less) / torch.where(more > less, more - less, 1.0), 0.0).clamp(0, 1)
    cheap, share = torch.where(enough[:, None], nearest.indices, cheap), torch.where(enough, 0.0, share)
    law = torch.zeros_like(p).scatter_add(-1, cheap, (1 - share)[:, None] * p)
    law = law.scatter_add(-1, far, share[:, None] * p)
    value = (law * z).sum(-1)
    price = torch.where(enough, 0.0, high)
    dual = (p * (z[:, None, :] + price[:, None, None] * cost).amin(-1)).sum(-1) - price * radius
    return Worst(value.reshape(lead), law.reshape(*lead, n), (value - dual).abs().reshape(lead))
