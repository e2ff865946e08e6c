"""n independent copies of a tabular access as one torch batch (the scaled room's access).

Same streams, same successor table and same rules as `polytheory.access.tabular`, so that replica i draws exactly what
the reference draws with ``replica=i``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from polytheory.access._grants import Grant, Key, Meter, Requests
from polytheory.access.tabular import DRAWS_PER_STEP, TabularAccess, check_states
from polytheory.errors import AccessError, SettingError
from polytheory.streams import uniforms
from polytheory.trajectories import Trajectories

BLOCK = 16  # steps between two looks at which rows still run


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
        # a row that has ended stays where it is, exactly (the model promises that only up to rounding)
        terminal = np.asarray(model.terminal)
        ends = terminal[:, None, None]
        self._next = self._put(np.where(ends, np.arange(S)[:, None, None], table.next_state).reshape(-1, K))
        self._reward = self._put(table.reward.reshape(-1, K))
        self._terminal = self._put(terminal)
        self._mu = self._put(model.mu)
        self._any_terminal = bool(terminal.any())
        # [n, S] where each replica may start, where that depends on what it did
        limited = bool(base.grants & {Grant.LOCAL_RESET, Grant.MU_RESET}) and Grant.SAMPLE not in base.grants
        self._local = Grant.LOCAL_RESET in base.grants
        self._visited = ((self._mu > 0) & self._local).repeat(n, 1) if limited else None
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
        """Sample one episode per request; see `TabularAccess.rollouts`. Tensors [n * batch, t] on the device.

        A policy with a method ``table()`` [R, S, A], or [R, H, S, A] by stage, is sampled from that table, without a call per
        step; others are asked for ``probs`` step by step. The draws are the same.
        """
        self.base.ask(Grant.EPISODE)
        row_id = torch.as_tensor(requests.row_id, device=self.device)
        n, t_max = row_id.numel(), self.base._steps(requests)
        replica = self._replica_of(n, requests.replica)
        if requests.start is None:
            s = inverse_cdf(self._mu.expand(n, -1), uniforms(*key, row_id, 1)[:, 0])
        else:
            s = torch.as_tensor(requests.start, device=self.device)
            self._check_starts(s, n, replica)
            self.meter.add("resets", self._shares(replica))
        table = getattr(policy, "table", None)
        tape = _Tape(n, t_max, self.device)
        if callable(table):
            s = self._follow_table(torch.as_tensor(table(), device=self.device), s, row_id, key, tape)
        else:
            s = self._follow(policy, s, row_id, key, tape)
        self.meter.add("episodes", self._shares(replica))
        self.meter.add("transitions", self._shares(replica, tape.mask.sum(0)))
        if self._local and self._visited is not None:
            self._visited[replica, s] = True
            self._visited[replica.expand(t_max, n)[tape.mask], tape.states[tape.mask]] = True
        finished = self._terminal[s] | (t_max == self.spec.horizon)
        return tape.trajectories(s, finished, requests.group)

    def initial_states(self, key: Key, row_id: Any, *, replica: Any = None) -> torch.Tensor:
        """First states of episodes; see `TabularAccess.initial_states`. ``replica`` as in `Requests`."""
        self.base.ask(Grant.EPISODE)
        row_id = torch.as_tensor(row_id, device=self.device)
        self.meter.add("episodes", self._shares(self._replica_of(row_id.numel(), replica)))
        return inverse_cdf(self._mu.expand(row_id.numel(), -1), uniforms(*key, row_id, 1)[:, 0])

    def sample(
        self, s: torch.Tensor, a: torch.Tensor, key: Key, *, row_id: Any, h: int = 0, replica: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rewards and next states from any (s, a); see `TabularAccess.sample`. ``replica`` as in `Requests`."""
        self.base.ask(Grant.SAMPLE)
        row_id = torch.as_tensor(row_id, device=self.device)
        n = row_id.numel()
        check_states(s.cpu().numpy(), n, self._S)
        if n and (int(a.min()) < 0 or int(a.max()) >= self._A):
            raise SettingError(f"a must lie in [0, {self._A}); got {int(a.min())} to {int(a.max())}")
        self.meter.add("transitions", self._shares(self._replica_of(n, replica)))
        u = uniforms(*key, row_id, 2)
        transition = self._transition(self._cell(s, a, h), u[:, 0])
        return self._rewards(transition, s * self._A + a, u[:, 1]), self._next.view(-1)[transition]

    def reset_starts(self, key: Key, row_id: Any, *, h: int = 0, replica: Any = None) -> torch.Tensor:
        """Start states drawn from the reset law of stage h; see `TabularAccess.reset_starts`."""
        law = self._put(self.base._reset_law(h))
        row_id = torch.as_tensor(row_id, device=self.device)
        n = row_id.numel()
        starts = inverse_cdf(law.expand(n, -1), uniforms(*key, row_id, 1)[:, 0])
        if self._visited is not None:
            self._visited[self._replica_of(n, replica), starts] = True
        return starts

    def _replica_of(self, n: int, given: Any = None) -> torch.Tensor:
        """Which replica each of n rows belongs to."""
        if given is not None:
            return torch.as_tensor(given, device=self.device)
        if n % self.replicas:
            raise SettingError(f"{n} rows cannot be shared by {self.replicas} replicas; ask for a multiple")
        return torch.arange(n, device=self.device) // max(n // self.replicas, 1)

    def _shares(self, replica: torch.Tensor, amounts: torch.Tensor | None = None) -> np.ndarray:
        """Rows, or the sum of ``amounts`` [n], of each replica."""
        counts = torch.zeros(self.replicas, dtype=torch.int64, device=self.device)
        return counts.index_add_(0, replica, torch.ones_like(replica) if amounts is None else amounts).cpu().numpy()

    def _check_starts(self, s: torch.Tensor, n: int, replica: torch.Tensor) -> None:
        """The rule of `TabularAccess.check_starts`, replica by replica."""
        if self._visited is None:
            self.base.ask(Grant.LOCAL_RESET)
            self.base.check_starts(s.cpu().numpy(), n)
            return
        check_states(s.cpu().numpy(), n, self._S)
        fresh = ~self._visited[replica, s]
        if bool(fresh.any()):
            row = int(fresh.nonzero()[0, 0])
            what = "visited" if self._local else "drew"
            raise AccessError(
                f"replica {int(replica[row])} never {what} state {int(s[row])}; {type(self.base).__name__} resets only to "
                "such states. Use GenerativeModel, or reach the state first"
            )

    def _follow(self, policy: Any, s: torch.Tensor, row_id: torch.Tensor, key: Key, tape: _Tape) -> torch.Tensor:
        """Any policy, with or without memory: one call per step for all rows."""
        memory, rows = policy.start(len(s)), torch.arange(len(s), device=self.device)
        u = self._draws(row_id, key, 0, tape.steps)
        for t in range(tape.steps):
            alive = ~self._terminal[s]
            # asking whether anyone is alive costs a synchronisation: only where episodes can end early
            if self._any_terminal and not bool(alive.any()):
                break
            probs = policy.probs(memory, t, s)
            a = inverse_cdf(probs, u[t, 0])
            transition = self._transition(self._cell(s, a, t), u[t, 1])
            r, s2 = self._rewards(transition, s * self._A + a, u[t, 2]), self._next.view(-1)[transition]
            memory = policy.update(memory, t, s, a, r, s2)
            tape.write(slice(t, t + 1), None, alive, s, a, r, torch.log(probs[rows, a]))
            s = s2
        return s

    def _follow_table(
        self, table: torch.Tensor, s: torch.Tensor, row_id: torch.Tensor, key: Key, tape: _Tape
    ) -> torch.Tensor:
        """Memoryless policies given as a table: draws in blocks of steps, only for rows that still run."""
        cdf, log_table, A = _cumulative(table).view(-1, self._A), torch.log(table).view(-1), self._A
        if len(s) % len(table):
            raise SettingError(f"{len(s)} rows cannot be shared by {len(table)} policies; ask for a multiple")
        own_rows, stage = cdf.shape[0] // len(table), self._S if table.ndim == 4 else 0  # rows of the table
        offset = (torch.arange(len(s), device=self.device) // (len(s) // len(table))) * own_rows
        running, block = None, BLOCK if self._any_terminal else tape.steps
        for first in range(0, tape.steps, block):
            if self._any_terminal:
                running = (~self._terminal[s]).nonzero()[:, 0]
                if not len(running):
                    break
            own = slice(None) if running is None else running
            steps = min(block, tape.steps - first)
            u = self._draws(row_id[own], key, first, steps)
            now, base = s[own], offset[own]
            states, cells, transitions = [], [], []
            for t in range(steps):
                cell = base + now + (first + t) * stage
                a = (cdf.index_select(0, cell) <= u[t, 0][:, None]).sum(-1)
                transition = self._transition(self._cell(now, a, first + t), u[t, 1])
                states.append(now)
                cells.append(cell.mul_(A).add_(a))
                transitions.append(transition)
                now = self._next.view(-1).take(transition)
            x, c, k = torch.stack(states), torch.stack(cells), torch.stack(transitions)
            a = c % A
            r = self._rewards(k.view(-1), (x * A + a).view(-1), u[:, 2].reshape(-1)).view_as(u[:, 2])
            tape.write(slice(first, first + steps), running, ~self._terminal[x], x, a, r, log_table.take(c))
            s = now if running is None else s.index_copy(0, running, now)
        return s

    def _draws(self, row_id: torch.Tensor, key: Key, first: int, steps: int) -> torch.Tensor:
        """Uniforms [steps, DRAWS_PER_STEP, n] of the steps from ``first`` on; draw 0 of a row is its start state."""
        u = uniforms(*key, row_id, DRAWS_PER_STEP * steps, first=1 + DRAWS_PER_STEP * first)
        return u.t().contiguous().view(steps, DRAWS_PER_STEP, -1)

    def _cell(self, s: torch.Tensor, a: torch.Tensor, h: int) -> torch.Tensor:
        """Row of the successor table."""
        cell = s * self._A + a
        return cell + h * (self._S * self._A) if self._staged else cell

    def _transition(self, cell: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Flat index of the successor drawn by ``u``."""
        k = (self._cdf.index_select(0, cell) <= u[:, None]).sum(-1)
        return k.add_(cell, alpha=self._cdf.shape[-1])

    def _rewards(self, transition: torch.Tensor, pair: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Rewards of transitions; ``pair`` = s * A + a and ``u`` matter only for random rewards."""
        if self._law is None:
            return self._reward.view(-1).take(transition)
        return self._law_values[inverse_cdf(self._law_probs[pair], u)]

    def state_dict(self) -> dict[str, Any]:
        """The meter, and the visited states where they matter, for checkpoints."""
        visited = {} if self._visited is None else {"visited": self._visited.cpu().numpy().copy()}
        return {"meter": self.meter.state_dict(), **visited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` saved."""
        self.meter.load_state_dict(state["meter"])
        if self._visited is not None:
            self._visited = self._put(np.asarray(state["visited"], dtype=bool))


class _Tape:
    """Columns of trajectories while they are written, time first."""

    def __init__(self, n: int, steps: int, device: torch.device):
        self.n, self.steps = n, steps
        self.mask = torch.zeros(steps, n, dtype=torch.bool, device=device)
        self.states, self.actions = (torch.zeros(steps, n, dtype=torch.int64, device=device) for _ in range(2))
        self.rewards, self.log_probs = (torch.zeros(steps, n, dtype=torch.float64, device=device) for _ in range(2))

    def write(self, when: slice, rows: torch.Tensor | None, mask: torch.Tensor, s, a, r, log_p) -> None:
        """Put steps ``when`` of ``rows`` (None: all), zeros where ``mask`` is False."""
        self._put(self.mask, when, rows, mask)
        for column, x in ((self.states, s), (self.actions, a), (self.rewards, r), (self.log_probs, log_p)):
            self._put(column, when, rows, torch.where(mask, x, torch.zeros_like(x)))

    def _put(self, column: torch.Tensor, when: slice, rows: torch.Tensor | None, x: torch.Tensor) -> None:
        if rows is None:
            column[when] = x
        else:
            column[when].index_copy_(1, rows, x)

    def trajectories(self, final: torch.Tensor, finished: torch.Tensor, group: Any) -> Trajectories:
        """Rows first, as everybody else reads them."""
        columns = (self.states, self.actions, self.rewards, self.mask, self.log_probs)
        states, actions, rewards, mask, log_probs = (x.t().contiguous() for x in columns)
        return Trajectories(states, actions, rewards, mask, log_probs, final, finished, group)


def _cumulative(probs: torch.Tensor) -> torch.Tensor:
    """Cumulative probabilities whose last positive entry and all after it are infinite: counting entries <= u is then
    the draw of `inverse_cdf`."""
    last = probs.shape[-1] - 1 - torch.argmax((probs.flip(-1) > 0).to(torch.int8), dim=-1, keepdim=True)
    past = torch.arange(probs.shape[-1], device=probs.device) >= last
    return torch.cumsum(probs, dim=-1).masked_fill(past, torch.inf)


def inverse_cdf(probs: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Index drawn by each uniform [n] from ``probs`` [n, K]; entries of probability 0 are never drawn."""
    below = (torch.cumsum(probs, dim=1) <= u[:, None]).sum(-1)
    last = probs.shape[1] - 1 - torch.argmax((probs.flip(1) > 0).to(torch.int8), dim=1)
    return torch.minimum(below, last)
