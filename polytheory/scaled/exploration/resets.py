"""PSDP and CPI in torch, many replicas in lock-step; theorems as in the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests
from polytheory.algorithm import Info
from polytheory.exploration.agnostic import CpiSettings, PsdpSettings
from polytheory.models.layered import layers_of
from polytheory.scaled.exploration.reset_parts import cell_means, class_gains, mixed, restriction_gains, step_length
from polytheory.scaled.exploration.row_policies import LayerExplorer, TablePolicy
from polytheory.streams import row_ids, uniforms


@dataclass(eq=False)
class PsdpState:
    """As the reference's with a leading replica axis: ``probs`` [n, H, x, A], ``chosen`` [n, H]."""

    probs: Float[torch.Tensor, "n H x A"]
    chosen: Int[torch.Tensor, "n H"]
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]


class Psdp(PsdpSettings):
    """Policy search by dynamic programming [bagnell2003]; a step chooses one layer, the last first, in all replicas.

    Fields as in `PsdpSettings`.
    """

    @cached_property
    def actions(self) -> Int[torch.Tensor, "N H n"]:
        """Actions of the class as a tensor."""
        return torch.tensor(self.policies.actions)

    def init(self, access: Any, seed: int, replica: int = 0) -> PsdpState:
        """No layer chosen."""
        layers = layers_of(access.spec)
        self.policies.fits(layers)
        H, n = access.spec.horizon, access.replicas
        chosen = torch.full((n, H), -1, device=access.device)
        return PsdpState(_uniform(access), chosen, 0, seed, replica + torch.arange(n))

    def step(self, state: PsdpState, access: Any) -> tuple[PsdpState, Info]:
        """Choose the next layer from the end; all layers chosen, stay."""
        H, n, A = layers_of(access.spec)
        R = access.replicas
        if state.t >= H:
            return replace(state, t=state.t + 1), {"gain": np.zeros(R)}
        h = H - 1 - state.t
        ids = _row_ids(state.replica, self.batch)
        starts = access.reset_starts(Key(state.seed, "psdp/reset", state.t), ids, h=h)
        policy = TablePolicy(by_state(state.probs))  # layer h is still uniform
        traj = access.rollouts(policy, Requests(ids, H - h, starts), Key(state.seed, "psdp/episode", state.t))
        returns = torch.where(traj.mask, traj.rewards, 0.0).sum(1)
        s, a, returns = (x.view(R, -1) for x in (traj.states[:, 0] - h * n, traj.actions[:, 0], returns))
        cells = cell_means(s, a, returns, n, A)
        own = self.actions[:, h].to(access.device)
        gain, k = restriction_gains(cells, own).max(1)
        probs, chosen = state.probs.clone(), state.chosen.clone()
        probs[:, h], chosen[:, h] = torch.nn.functional.one_hot(own[k], A).double(), k
        return replace(state, probs=probs, chosen=chosen, t=state.t + 1), {"gain": gain.numpy(force=True)}

    def policy(self, state: PsdpState) -> TablePolicy:
        """The product of the chosen layers of each replica."""
        return TablePolicy(by_state(state.probs))

    def done(self, state: PsdpState) -> bool:
        """Every layer is chosen."""
        return state.t >= state.chosen.shape[1]


@dataclass(eq=False)
class CpiState:
    """As the reference's with a leading replica axis: ``probs`` [n, H, x, A], ``gain``, ``alpha``, ``stopped`` [n]."""

    probs: Float[torch.Tensor, "n H x A"]
    gain: Float[torch.Tensor, " n"]
    alpha: Float[torch.Tensor, " n"]
    stopped: torch.Tensor
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]


class Cpi(CpiSettings):
    """Conservative policy iteration [kakade2002] with a finite horizon, as in the reference.

    Fields as in `CpiSettings`.
    """

    @cached_property
    def actions(self) -> Int[torch.Tensor, "N H n"]:
        """Actions of the class as a tensor."""
        return torch.tensor(self.policies.actions)

    def init(self, access: Any, seed: int, replica: int = 0) -> CpiState:
        """The uniform policy."""
        self.policies.fits(layers_of(access.spec))
        n = access.replicas
        zero = torch.zeros(n, dtype=torch.float64, device=access.device)
        stopped = torch.zeros(n, dtype=torch.bool, device=access.device)
        return CpiState(_uniform(access), zero, zero.clone(), stopped, 0, seed, replica + torch.arange(n))

    def step(self, state: CpiState, access: Any) -> tuple[CpiState, Info]:
        """Estimate all gains, and mix in the best member of each replica unless its gain is at most tol."""
        H, _, A = layers_of(access.spec)
        actions = self.actions.to(access.device)
        gain, k = class_gains(self.cells(state, access), state.probs, actions).max(1)
        stopped = state.stopped | (gain <= self.tol)
        lengths = [step_length(g, H, self.advantage_bound) if self.alpha is None else self.alpha for g in gain.tolist()]
        alpha = torch.where(stopped, 0.0, torch.tensor(lengths, dtype=torch.float64, device=access.device))
        target = torch.nn.functional.one_hot(actions[k], A).double()
        probs = mixed(state.probs, target, alpha[:, None, None, None])
        new = replace(state, probs=probs, gain=gain, alpha=alpha, stopped=stopped, t=state.t + 1)
        return new, {"gain": gain.numpy(force=True), "alpha": alpha.numpy(force=True)}

    def cells(self, state: CpiState, access: Any) -> Float[torch.Tensor, "n H x A"]:
        """Estimates of ``d_mu,h(x) Q_h(x, a)`` from one batch."""
        H, n, A = layers_of(access.spec)
        ids = _row_ids(state.replica, self.batch)
        u = torch.as_tensor(uniforms(state.seed, "cpi/layers", state.t, ids, 2), device=access.device)
        first = torch.floor(u[:, 0] * H).long()
        acting = first + torch.floor(u[:, 1] * (H - first)).long()
        starts, replica = torch.zeros_like(first), torch.arange(len(ids), device=access.device) // self.batch
        for h in range(H):
            rows = first == h
            own = torch.as_tensor(ids, device=access.device)[rows]
            starts[rows] = access.reset_starts(Key(state.seed, "cpi/reset", state.t), own, h=h, replica=replica[rows])
        explorer = LayerExplorer(by_state(state.probs), acting, n)
        traj = access.rollouts(explorer, Requests(ids, H, starts), Key(state.seed, "cpi/episode", state.t))
        layer = traj.states // n
        here = traj.mask & (layer == acting[:, None])
        later = torch.where(traj.mask & (layer >= acting[:, None]), traj.rewards, 0.0).sum(1)
        weight = torch.where(here.any(1), (H - first) * later, 0.0)
        at = here.to(torch.int8).argmax(1, keepdim=True)
        picked = (traj.states.gather(1, at), traj.actions.gather(1, at), weight)
        s, a, weight = (x.view(access.replicas, -1) for x in picked)
        return cell_means(s, a, weight, H * n, A).unflatten(1, (H, n))

    def policy(self, state: CpiState) -> TablePolicy:
        """The mixture of each replica."""
        return TablePolicy(by_state(state.probs))

    def done(self, state: CpiState) -> bool:
        """The gain of every replica fell to tol."""
        return bool(state.stopped.all())


def by_state(probs: Float[torch.Tensor, "n H x A"]) -> Float[torch.Tensor, "n S A"]:
    """Tables by state number; the last state, where episodes end, gets action 0."""
    end = torch.zeros_like(probs[:, 0, :1])
    end[..., 0] = 1.0
    return torch.cat([probs.flatten(1, 2), end], dim=1)


def _uniform(access: Any) -> torch.Tensor:
    H, n, A = layers_of(access.spec)
    return torch.full((access.replicas, H, n, A), 1 / A, dtype=torch.float64, device=access.device)


def _row_ids(replica: torch.Tensor, batch: int) -> np.ndarray:
    return row_ids(replica.numpy().repeat(batch), np.tile(np.arange(batch), len(replica)))
