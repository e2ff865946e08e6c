"""Access to a tabular model, one grant at a time, with every question counted."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access._grants import Grant, Key, Meter, Requests, Spec, check_grants
from polytheory.errors import AccessError, SettingError, require
from polytheory.models._check import check_distributions
from polytheory.models.tabular import TabularMDP
from polytheory.policies import Policy
from polytheory.streams import row_ids, uniforms
from polytheory.trajectories import Trajectories

DRAWS_PER_STEP = 3  # action, next state, reward


class TabularAccess:
    """Base of the named accesses: a model behind a set of grants and a meter.

    Args:
        model: the world.
        reset: reset distribution ``[S]`` or ``[H, S]`` for MU_RESET.
        known_rewards: put the reward table into ``spec.r``.
    """

    grants: ClassVar[frozenset[Grant]] = frozenset()
    replicas = 1

    def __init__(
        self, model: TabularMDP, *, reset: Float[np.ndarray, "*H S"] | None = None, known_rewards: bool = False
    ):
        self._model = model
        self.meter = Meter()
        self._visited, self._drawn = model.mu > 0, np.zeros(model.S, dtype=bool)
        self._reset = None
        if Grant.MU_RESET in self.grants and reset is None and Grant.MODEL not in self.grants:
            raise SettingError(f"{type(self).__name__} needs its reset distribution; pass reset=[S] or [H, S]")
        if reset is not None:
            reset = np.array(reset, dtype=float)
            if reset.shape[-1] != model.S:
                raise SettingError(f"reset must end in S = {model.S}; got shape {list(reset.shape)}")
            check_distributions(reset, "reset")
            self._reset = reset
        r = np.stack([model.r_at(h) for h in range(model.horizon or 1)]) if model.is_staged else model.r_at()
        self.spec = Spec(
            S=model.S, A=model.A, horizon=model.horizon, gamma=model.gamma, reward_range=model.reward_range,
            r=r if known_rewards or Grant.MODEL in self.grants else None, name=model.name,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name})"

    def ask(self, grant: Grant) -> None:
        """Raise `AccessError` unless the grant is given."""
        check_grants((grant,), self.grants, "this question", type(self).__name__)

    @property
    def model(self) -> TabularMDP:
        """The model itself (MODEL)."""
        self.ask(Grant.MODEL)
        return self._model

    def fresh(self) -> TabularAccess:
        """The same access with its meter at zero and nothing visited yet."""
        other = copy.copy(self)
        other.meter, other._visited = Meter(), self._model.mu > 0
        other._drawn = np.zeros(self._model.S, dtype=bool)
        return other

    def replicate(self, n: int, *, device: str = "cpu") -> Any:
        """n independent copies as one batched torch access, with a meter of n counters."""
        require("torch", "scaled")
        from polytheory.access.batched import BatchedAccess

        return BatchedAccess(self, n, device=device)

    def initial_states(self, key: Key, row_id: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """First states of episodes that the learner goes on with by itself, transition by transition (EPISODE)."""
        self.ask(Grant.EPISODE)
        self.meter.add("episodes", len(row_id))
        u = uniforms(*key, row_id, 1)[:, 0]
        return inverse_cdf(np.broadcast_to(self._model.mu, (len(u), self._model.S)), u)

    def sample(
        self,
        s: Int[np.ndarray, " n"],
        a: Int[np.ndarray, " n"],
        key: Key,
        *,
        h: int = 0,
        row_id: Int[np.ndarray, " n"] | None = None,
    ) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Rewards and next states of n transitions from any (s, a) (SAMPLE). Row i draws from stream row ``row_id[i]``
        (default: i)."""
        self.ask(Grant.SAMPLE)
        for name, x, size in (("s", s, self._model.S), ("a", a, self._model.A)):
            if x.size and (x.min() < 0 or x.max() >= size):
                raise SettingError(f"{name} must lie in [0, {size}); got {x.min()} to {x.max()}")
        rows = row_ids(0, np.arange(len(s))) if row_id is None and len(s) else row_id
        u = uniforms(*key, rows, 2) if rows is not None and len(s) else np.zeros((0, 2))
        self.meter.add("transitions", len(s))
        return self._transition(h, s, a, u[:, 0], u[:, 1])

    def reset_starts(self, key: Key, row_id: Int[np.ndarray, " n"], *, h: int = 0) -> Int[np.ndarray, " n"]:
        """Start states drawn from the reset distribution of stage h (MU_RESET); the meter counts them when used."""
        law = self._reset_law(h)
        starts = inverse_cdf(np.tile(law, (len(row_id), 1)), uniforms(*key, row_id, 1)[:, 0])
        self._visited[starts] = self._drawn[starts] = True
        return starts

    def _reset_law(self, h: int = 0) -> Float[np.ndarray, " S"]:
        """The reset distribution of stage h (MU_RESET). Raises `SettingError` when the access was made without one."""
        self.ask(Grant.MU_RESET)
        if self._reset is None:
            raise SettingError("this access has no reset distribution; pass reset=[S] or [H, S] when making it")
        return self._reset[h] if self._reset.ndim == 2 else self._reset

    def rollouts(self, policy: Policy, requests: Requests, key: Key) -> Trajectories:
        """Sample one episode per request under ``policy`` (EPISODE; start states need LOCAL_RESET or MU_RESET).

        An episode stops at a terminal state, at the horizon, or after ``requests.truncation`` steps.
        """
        self.ask(Grant.EPISODE)
        model, n, t_max = self._model, len(requests.row_id), self._steps(requests)
        u = uniforms(*key, requests.row_id, 1 + DRAWS_PER_STEP * t_max)
        s = self._starts(requests, u[:, 0])
        states, actions = np.zeros((n, t_max), dtype=np.int64), np.zeros((n, t_max), dtype=np.int64)
        rewards, log_probs, mask = np.zeros((n, t_max)), np.zeros((n, t_max)), np.zeros((n, t_max), dtype=bool)
        final = s.copy()
        alive = ~model.terminal[s]
        memory, rows = policy.start(n), np.arange(n)
        for t in range(t_max):
            if not alive.any():
                break
            probs = policy.probs(memory, t, s)
            draw = u[:, 1 + DRAWS_PER_STEP * t :]
            a = inverse_cdf(probs, draw[:, 0])
            r, s2 = self._transition(t, s, a, draw[:, 1], draw[:, 2])
            memory = policy.update(memory, t, s, a, r, s2)
            mask[:, t] = alive
            states[:, t], actions[:, t], rewards[:, t] = (np.where(alive, x, 0) for x in (s, a, r))
            log_probs[:, t] = np.where(alive, np.log(probs[rows, a]), 0.0)
            s = np.where(alive, s2, s)
            final = s
            alive = alive & ~model.terminal[s]
        self.meter.add("episodes", n)
        self.meter.add("transitions", int(mask.sum()))
        self._visited[states[mask]] = True
        self._visited[final] = True
        finished = ~alive | (t_max == model.horizon)
        return Trajectories(states, actions, rewards, mask, log_probs, final, finished, requests.group)

    def state_dict(self) -> dict[str, Any]:
        """Meter and visited states, for checkpoints."""
        return {"meter": self.meter.state_dict(), "visited": self._visited.copy(), "drawn": self._drawn.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` saved."""
        self.meter.load_state_dict(state["meter"])
        self._visited = np.asarray(state["visited"], dtype=bool).copy()
        self._drawn = np.asarray(state["drawn"], dtype=bool).copy()

    def _steps(self, requests: Requests) -> int:
        if requests.truncation < 1:
            raise SettingError(f"truncation = {requests.truncation}; an episode needs at least 1 step")
        return min(requests.truncation, self._model.horizon or requests.truncation)

    def _starts(self, requests: Requests, u: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        if requests.start is None:
            return inverse_cdf(np.broadcast_to(self._model.mu, (len(u), self._model.S)), u)
        start = np.asarray(requests.start, dtype=np.int64)
        self.check_starts(start, len(u))
        self.meter.add("resets", len(start))
        return start.copy()

    def check_starts(self, start: Int[np.ndarray, " m"], n: int) -> None:
        """Raise unless n episodes may start in these states: `AccessError`, or `SettingError` when they are none.

        SAMPLE allows every state, LOCAL_RESET the visited ones, MU_RESET those that `reset_starts` drew.
        """
        check_states(start, n, self._model.S)
        if Grant.SAMPLE in self.grants:
            return
        if not self.grants & {Grant.LOCAL_RESET, Grant.MU_RESET}:
            self.ask(Grant.LOCAL_RESET)
        allowed = self._visited if Grant.LOCAL_RESET in self.grants else self._drawn
        fresh = ~allowed[start]
        if fresh.any():
            what = "visited" if Grant.LOCAL_RESET in self.grants else "drawn by reset_starts"
            raise AccessError(
                f"state {int(start[fresh][0])} was never {what}; {type(self).__name__} resets only to such states. "
                "Use GenerativeModel, or reach the state first"
            )

    def _transition(self, h, s, a, u_state, u_reward):
        table, model = self._model.successors, self._model
        index = (h, s, a) if model.is_staged else (s, a)
        k = (table.cdf[index] <= u_state[:, None]).sum(axis=1)
        rows = np.arange(len(s))
        r, s2 = table.reward[index][rows, k], table.next_state[index][rows, k]
        if model.reward_law is not None:
            r = model.reward_law.values[inverse_cdf(model.reward_law.probs[s, a], u_reward)]
        return r, s2


def check_states(start: Int[np.ndarray, " m"], n: int, S: int) -> None:
    """Raise `SettingError` unless ``start`` holds n states in [0, S)."""
    if start.shape != (n,) or (n and (start.min() < 0 or start.max() >= S)):
        raise SettingError(f"start must hold {n} states in [0, {S}); got {start.tolist()[:8]}")


def inverse_cdf(probs: Float[np.ndarray, "n K"], u: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Index drawn by each uniform; entries of probability 0 are never drawn, whatever the rounding of the sum."""
    below = (np.cumsum(probs, axis=1) <= u[:, None]).sum(axis=1)
    last = probs.shape[1] - 1 - np.argmax(probs[:, ::-1] > 0, axis=1)
    return np.minimum(below, last)


class Online(TabularAccess):
    """Episodes from the start distribution only."""

    grants = frozenset({Grant.EPISODE})


class MuReset(TabularAccess):
    """Online, and episodes from a given exploratory reset distribution."""

    grants = frozenset({Grant.EPISODE, Grant.MU_RESET})


class LocalSimulator(TabularAccess):
    """Online, and episodes from any state visited before."""

    grants = frozenset({Grant.EPISODE, Grant.LOCAL_RESET})


class HybridResets(TabularAccess):
    """Local simulator and exploratory resets together."""

    grants = frozenset({Grant.EPISODE, Grant.LOCAL_RESET, Grant.MU_RESET})


class GenerativeModel(TabularAccess):
    """Transitions and episodes from any state."""

    grants = frozenset({Grant.EPISODE, Grant.LOCAL_RESET, Grant.SAMPLE})


class KnownModel(TabularAccess):
    """Everything: the model is known (planning)."""

    grants = frozenset({Grant.MODEL, Grant.SAMPLE, Grant.LOCAL_RESET, Grant.MU_RESET, Grant.EPISODE})


class OfflineData(TabularAccess):
    """A fixed data set of trajectories and nothing else."""

    grants = frozenset({Grant.DATA})

    def __init__(self, model: TabularMDP, data: Trajectories, **options: Any):
        super().__init__(model, **options)
        self._data = data

    @property
    def data(self) -> Trajectories:
        """The data set (DATA)."""
        return self._data
