"""n independent copies of a tabular access as one torch batch (the scaled room's access).

Same streams, same successor table and same rules as `polytheory.access.tabular`, so that replica i draws exactly what
the reference draws with ``replica=i``.
"""

from __future__ import annotations

from typing import Any

import torch

from polytheory.access._grants import Grant, Key, Meter, Requests
from polytheory.access.tabular import DRAWS_PER_STEP, TabularAccess
from polytheory.errors import SettingError
from polytheory.streams import uniforms
from polytheory.trajectories import Trajectories


class BatchedAccess:
    """The torch twin of a `TabularAccess` with ``n`` replicas; rows of a request are ordered replica-major."""

    def __init__(self, base: TabularAccess, n: int, *, device: str | torch.device = "cpu"):
        if n < 1:
            raise SettingError(f"replicate(n = {n}); at least 1 replica is needed")
        self.base, self.replicas, self.device = base, n, torch.device(device)
        self.grants, self.spec, self.meter = base.grants, base.spec, Meter(n)
        model = base._model
        self._staged, self._law = model.is_staged, model.reward_law
        # one flat row per (stage, state, action): fewer kernels per step than multi-axis indexing
        table, S, A = model.successors, model.S, model.A
        K = table.cdf.shape[-1]
        self._S, self._A = S, A
        self._cdf = self._put(table.cdf.reshape(-1, K))
        self._next = self._put(table.next_state.reshape(-1, K))
        self._reward = self._put(table.reward.reshape(-1, K))
        self._terminal = self._put(model.terminal)
        self._mu = self._put(model.mu)
        self._any_terminal = bool(model.terminal.any())
        if self._law is not None:
            self._law_values = self._put(self._law.values)
            self._law_probs = self._put(self._law.probs.reshape(S * A, -1))

    def _put(self, x) -> torch.Tensor:
        return torch.tensor(x, device=self.device)

    @property
    def model(self):
        """The model itself (MODEL)."""
        return self.base.model

    def rollouts(self, policy: Any, requests: Requests, key: Key) -> Trajectories:
        """Sample one episode per request; see `TabularAccess.rollouts`. Tensors [n * batch, t] on the device."""
        self.base.ask(Grant.EPISODE)
        row_id = torch.as_tensor(requests.row_id, device=self.device)
        n, t_max = row_id.numel(), self.base._steps(requests)
        if n % self.replicas:
            raise SettingError(f"{n} rows cannot be shared by {self.replicas} replicas; ask for a multiple")
        u = uniforms(*key, row_id, 1 + DRAWS_PER_STEP * t_max)
        if requests.start is None:
            s = inverse_cdf(self._mu.expand(n, -1), u[:, 0])
        else:
            self.base.ask(Grant.LOCAL_RESET)
            s = torch.as_tensor(requests.start, device=self.device)
            self.meter.add("resets", n // self.replicas)
        alive = ~self._terminal[s]
        memory, rows = policy.start(n), torch.arange(n, device=self.device)
        columns: dict[str, list[torch.Tensor]] = {k: [] for k in ("states", "actions", "rewards", "log_probs", "mask")}
        for t in range(t_max):
            # asking whether anyone is alive costs a synchronisation: only where episodes can end early
            if self._any_terminal and not bool(alive.any()):
                break
            probs = policy.probs(memory, t, s)
            draw = u[:, 1 + DRAWS_PER_STEP * t :]
            a = inverse_cdf(probs, draw[:, 0])
            r, s2 = self._transition(t, s, a, draw[:, 1], draw[:, 2])
            memory = policy.update(memory, t, s, a, r, s2)
            log_p = torch.log(probs[rows, a])
            for name, x in zip(columns, (s, a, r, log_p, alive), strict=True):
                columns[name].append(x)
            s = torch.where(alive, s2, s)
            alive = alive & ~self._terminal[s]
        c = {name: self._stack(xs, n, t_max, name) for name, xs in columns.items()}
        mask = c["mask"]
        taken = mask.reshape(self.replicas, -1).sum(-1)
        self.meter.add("episodes", n // self.replicas)
        self.meter.add("transitions", taken.cpu().numpy())
        keep = {name: torch.where(mask, x, torch.zeros_like(x)) for name, x in c.items() if name != "mask"}
        finished = ~alive | (t_max == self.spec.horizon)
        return Trajectories(
            keep["states"], keep["actions"], keep["rewards"], mask, keep["log_probs"], s, finished, requests.group
        )

    def _stack(self, xs: list[torch.Tensor], n: int, t_max: int, name: str) -> torch.Tensor:
        dtype = {"mask": torch.bool, "rewards": torch.float64, "log_probs": torch.float64}.get(name, torch.int64)
        out = torch.zeros(n, t_max, dtype=dtype, device=self.device)
        if xs:
            out[:, : len(xs)] = torch.stack(xs, dim=1)
        return out

    def _transition(self, h, s, a, u_state, u_reward):
        cell = s * self._A + a
        index = cell + h * (self._S * self._A) if self._staged else cell
        k = (self._cdf[index] <= u_state[:, None]).sum(-1)
        flat = index * self._cdf.shape[-1] + k
        r, s2 = self._reward.view(-1)[flat], self._next.view(-1)[flat]
        if self._law is not None:
            r = self._law_values[inverse_cdf(self._law_probs[cell], u_reward)]
        return r, s2

    def state_dict(self) -> dict[str, Any]:
        """The meter, for checkpoints."""
        return {"meter": self.meter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` saved."""
        self.meter.load_state_dict(state["meter"])


def inverse_cdf(probs: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Index drawn by each uniform [n] from ``probs`` [n, K]; entries of probability 0 are never drawn."""
    below = (torch.cumsum(probs, dim=1) <= u[:, None]).sum(-1)
    last = probs.shape[1] - 1 - torch.argmax((probs.flip(1) > 0).to(torch.int8), dim=1)
    return torch.minimum(below, last)
