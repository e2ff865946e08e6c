"""Optimistic critics in torch, for n replicas at once; see the reference for what is computed.

All tables have a leading replica axis: counts [n, H, S, A], transitions [n, H, S, A, S], critics [n, H, S, A].
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from polytheory._typing import Bool, Float, Int
from polytheory.errors import SettingError
from polytheory.trajectories import Trajectories

LOG_2 = math.log(2.0)
TIE = 1e-9  # as in the reference: determinants that double exactly count as doubled in spite of rounding


class Seen(NamedTuple):
    """The data as sums; see the reference. Fields: ``n`` [n, H, S, A], ``N`` [n, H, S, A, S], ``R`` [n, H, S, A]."""

    n: torch.Tensor
    N: torch.Tensor
    R: torch.Tensor

    def of(self, replicas: Int[torch.Tensor, " m"]) -> Seen:
        """The data of some replicas."""
        return Seen(*(x[replicas] for x in self))


def nothing_seen(replicas: int, H: int, S: int, A: int, device: torch.device) -> Seen:
    """No data."""
    n = torch.zeros(replicas, H, S, A, dtype=torch.int64, device=device)
    N = torch.zeros(replicas, H, S, A, S, dtype=torch.int64, device=device)
    return Seen(n, N, torch.zeros(replicas, H, S, A, dtype=torch.float64, device=device))


def add_episodes(seen: Seen, traj: Trajectories) -> Seen:
    """The data with episodes added, *in place* (the tables of transitions are large); rows are replica-major.

    Raises `SettingError` for more steps than stages, or states and actions out of range.
    """
    n, N, R = seen
    replicas, H, S, A = n.shape
    mask, states, actions, rewards = (
        torch.as_tensor(x, device=n.device) for x in (traj.mask, traj.states, traj.actions, traj.rewards)
    )
    row, t = mask.nonzero(as_tuple=True)
    s, a = states[row, t], actions[row, t]
    if t.numel() and bool((t.max() >= H) | (s.min() < 0) | (s.max() >= S) | (a.min() < 0) | (a.max() >= A)):
        raise SettingError(f"episodes must have at most {H} steps in {S} states and {A} actions; found others")
    replica = row // (len(mask) // replicas)
    cell = ((replica * H + t) * S + s) * A + a
    n.view(-1).index_add_(0, cell, torch.ones_like(cell))
    R.view(-1).index_add_(0, cell, rewards[row, t].to(R.dtype))
    i = ((row[1:] == row[:-1]) & (t[1:] == t[:-1] + 1)).nonzero()[:, 0]
    N.view(-1).index_add_(0, cell[i] * S + s[i + 1], torch.ones_like(i))
    return seen


def bonus(width: Float[torch.Tensor, "*n S A"], radius: float) -> Float[torch.Tensor, "*n S A"]:
    """``radius * width``; see the reference."""
    return radius * width


def next_value(f: Float[torch.Tensor, "n S A"], pi: Float[torch.Tensor, "n S A"] | None) -> Float[torch.Tensor, "n S"]:
    """What the critic regresses on: the best action (target Q*), or the action of ``pi`` (target Q^pi)."""
    return f.amax(-1) if pi is None else (pi * f).sum(-1)


def gram(n: torch.Tensor, phi: Float[torch.Tensor, "S A d"], lam: float) -> Float[torch.Tensor, "*n d d"]:
    """``Lambda = lam I + sum n phi phi^T`` of tables of counts [..., S, A]."""
    d = phi.shape[-1]
    flat = phi.reshape(-1, d)
    weighted = flat * n.reshape(*n.shape[:-2], -1, 1).to(flat.dtype)
    return lam * torch.eye(d, dtype=phi.dtype, device=phi.device) + weighted.mT @ flat


def widths(Lambda: Float[torch.Tensor, "*n d d"], phi: Float[torch.Tensor, "S A d"]) -> Float[torch.Tensor, "*n S A"]:
    """``|phi(s, a)|`` in the norm of ``Lambda^{-1}``."""
    flat = phi.reshape(-1, phi.shape[-1])
    square = ((flat @ torch.linalg.inv(Lambda)) * flat).sum(-1)
    return square.sqrt().reshape(*Lambda.shape[:-2], *phi.shape[:-1])


def estimate(n, sums, phi, lam: float, shrink: bool = True):
    """Ridge estimate of ``sums / n`` and its width, both [n, S, A], at one stage; see the reference."""
    n = n.to(sums.dtype)  # whole numbers times a Python number would be float32
    if phi is None:
        return sums / (lam + n if shrink else n.clamp(min=1)), 1 / torch.sqrt(lam + n)
    Lambda = gram(n, phi, lam)
    w = torch.linalg.solve(Lambda, torch.einsum("nsa,sad->nd", sums, phi))
    return torch.einsum("sad,nd->nsa", phi, w), widths(Lambda, phi)


def optimistic_critic(
    seen: tuple[Any, Any, Any],
    phi: Float[torch.Tensor, "S A d"] | None,
    r: Float[torch.Tensor, "H S A"] | None,
    radius: Float[torch.Tensor, " H"],
    caps: Float[torch.Tensor, " H"],
    lam: float = 1.0,
    pi: Float[torch.Tensor, "n H S A"] | None = None,
) -> Float[torch.Tensor, "n H S A"]:
    """``f_h = clip(estimate of r_h + next value + bonus, 0, caps_h)``, backward over the stages; see the reference."""
    data = Seen(*seen)
    f = torch.zeros_like(data.R)
    v = torch.zeros_like(data.R[:, 0, :, 0])
    radii, most = radius.tolist(), caps.tolist()
    for h in reversed(range(f.shape[1])):
        sums = _expected(data.N[:, h], v) + (data.R[:, h] if r is None else 0.0)
        mean, width = estimate(data.n[:, h], sums, phi, lam, radii[h] > 0)
        f[:, h] = ((0.0 if r is None else r[h]) + mean + bonus(width, radii[h])).clamp(0.0, most[h])
        v = next_value(f[:, h], None if pi is None else pi[:, h])
    return f


def _expected(N: torch.Tensor, v: Float[torch.Tensor, "n S"]) -> Float[torch.Tensor, "n S A"]:
    """``sum_y N(s, a, y) v(y)``."""
    flat = N.reshape(len(N), -1, N.shape[-1]).to(v.dtype)
    return torch.bmm(flat, v[:, :, None]).view(N.shape[:-1])


def information(n: torch.Tensor, phi: Float[torch.Tensor, "S A d"] | None, lam: float = 1.0) -> torch.Tensor:
    """``log det(Lambda_h) - log det(lam I)`` of every stage: [n, H]."""
    n = n.to(torch.float64)
    if phi is None:
        return torch.log1p(n / lam).sum((-2, -1))
    factors = torch.linalg.cholesky(gram(n, phi, lam))
    return 2 * torch.log(factors.diagonal(dim1=-2, dim2=-1)).sum(-1) - phi.shape[-1] * math.log(lam)


def switch_due(now: Float[torch.Tensor, "*n H"], before: Float[torch.Tensor, "*n H"]) -> Bool[torch.Tensor, "*n"]:
    """True where the determinant of some stage has doubled since the last switch."""
    return (now - before >= LOG_2 - TIE).any(-1)
