"""Episodes of Gymnasium environments with discrete actions, many environments at a time."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from polytheory.access._grants import Grant, Key, Meter, Requests, Spec, check_grants
from polytheory.access.batched import inverse_cdf
from polytheory.errors import SettingError, UnknownNameError, require
from polytheory.policies import Policy
from polytheory.streams import subseed, uniforms
from polytheory.trajectories import Trajectories


class VectorEnvs:
    """Online access to a Gymnasium environment; one replica.

    An episode hangs on its row id alone: the environment is reset with a seed derived from (key, row id), and action t
    is drawn by inverse CDF from uniform t of that row. So a row does not depend on its place in the batch or on
    ``n_envs``, up to rounding in the policy's batched arithmetic, and a resumed run needs no environment state.

    Args:
        env_id: a registered environment with discrete actions, scalar rewards, and observations that are arrays or whole
            numbers from 0, e.g. "CartPole-v1".
        n_envs: environments stepped together, >= 1; requests are served in chunks of this size.
        gamma: discount of the objective, in [0, 1].
        horizon: length of an episode, where the task has one: it ends there, and what would come is worth nothing. None:
            a cut does not end it. At most the environment's own time limit.
        reward_range: bounds on one reward, where known.
        vectorization_mode: "sync" (one process) or "async" (one process per environment).
        **options: passed to `gymnasium.make_vec`.

    Attributes: ``time_limit`` steps after which the environment cuts an episode, or None; ``observation_scale`` the largest
        size of every number that is observed, 1 where it has no bound; None where states can be counted (``spec.S``).

    Raises: MissingExtraError without Gymnasium; UnknownNameError for an unknown environment; SettingError for actions
        that are not discrete, rewards that are vectors, or settings out of range.
    """

    grants: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    replicas = 1

    def __init__(
        self,
        env_id: str,
        n_envs: int = 16,
        *,
        gamma: float = 0.99,
        horizon: int | None = None,
        reward_range: tuple[float, float] = (-np.inf, np.inf),
        vectorization_mode: str = "sync",
        **options: Any,
    ):
        gym = require("gymnasium", "envs")
        if n_envs < 1:
            raise SettingError(f"n_envs = {n_envs}; at least 1 environment is needed")
        if not 0 <= gamma <= 1:
            raise SettingError(f"gamma = {gamma}; it must lie in [0, 1]")
        try:
            self.time_limit = gym.spec(env_id).max_episode_steps
        except gym.error.Error as error:
            raise UnknownNameError("Gymnasium environment", env_id, gym.registry) from error
        if horizon is not None and not 1 <= horizon <= (self.time_limit or horizon):
            raise SettingError(
                f"horizon = {horizon}; it must be at least 1, and at most {env_id}'s limit {self.time_limit}"
            )
        try:
            self._envs = gym.make_vec(env_id, n_envs, vectorization_mode=vectorization_mode, **options)
        except TypeError as error:
            raise SettingError(f"{env_id} does not take these options: {str(error).partition(chr(10))[0]}") from error
        actions, seen = self._envs.single_action_space, self._envs.single_observation_space
        if not isinstance(actions, gym.spaces.Discrete) or actions.start != 0:
            self.close()
            raise SettingError(f"{env_id} has actions {actions}; only Discrete(n) starting at 0 is supported")
        one = getattr(self._envs, "envs", [self._envs])[0].unwrapped
        if getattr(one, "reward_space", None) is not None:  # as environments with vector rewards declare
            self.close()
            raise SettingError(f"{env_id} has vector rewards; a learner here takes one number")
        self.env_id, self.n_envs, self.meter = env_id, n_envs, Meter()
        counted = isinstance(seen, gym.spaces.Discrete) and seen.start == 0
        self.spec = Spec(int(seen.n) if counted else None, int(actions.n), horizon, gamma, reward_range, name=env_id)
        self.observation_scale = _largest(seen.low, seen.high) if isinstance(seen, gym.spaces.Box) else None

    def ask(self, grant: Grant) -> None:
        """Raise `AccessError` unless the grant is given."""
        check_grants((grant,), self.grants, "this question", type(self).__name__)

    def rollouts(self, policy: Policy, requests: Requests, key: Key) -> Trajectories:
        """Sample one episode per request, in torch: states [n, t, *obs] in the environment's dtype.

        ``finished`` is True where the environment terminated or the horizon is reached; a time limit of the environment, like
        ``requests.truncation``, leaves it False. Steps after the end are masked and never recorded.
        """
        if requests.start is not None:
            self.ask(Grant.LOCAL_RESET)
        if requests.truncation < 1:
            raise SettingError(f"truncation = {requests.truncation}; an episode needs at least 1 step")
        row_id = np.asarray(requests.row_id, dtype=np.int64)
        most = min(requests.truncation, self.spec.horizon or requests.truncation)
        chunks = [row_id[i : i + self.n_envs] for i in range(0, len(row_id), self.n_envs)]
        parts = [self._chunk(policy, chunk, most, key) for chunk in chunks]
        steps = max(len(part["mask"]) for part in parts)
        columns = {name: np.concatenate([_rows_first(part[name], steps) for part in parts]) for name in _COLUMNS}
        ends = {name: np.concatenate([part[name] for part in parts]) for name in ("final_states", "finished")}
        self.meter.add("episodes", len(row_id))
        self.meter.add("transitions", int(columns["mask"].sum()))
        c = {name: torch.from_numpy(x) for name, x in (columns | ends).items()}
        return Trajectories(
            c["states"], c["actions"], c["rewards"], c["mask"], c["log_probs_sampler"], c["final_states"], c["finished"],
            requests.group,
        )  # fmt: skip

    def _chunk(self, policy: Policy, row_id: np.ndarray, truncation: int, key: Key) -> dict[str, Any]:
        m, spare = len(row_id), self.n_envs - len(row_id)  # spare environments repeat a row, unrecorded
        ids = np.concatenate([row_id, row_id[:1].repeat(spare)])
        observations, _ = self._envs.reset(
            seed=[subseed(key.seed, key.purpose + "/reset", key.step, int(i)) for i in ids]
        )
        u = torch.from_numpy(uniforms(*key, ids, truncation))
        tape: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
        final, alive, finished = observations[:m], np.ones(m, dtype=bool), np.zeros(m, dtype=bool)
        memory = policy.start(self.n_envs)
        for t in range(truncation):
            s = torch.from_numpy(observations)
            probs = policy.probs(memory, t, s).cpu()  # the environments live there
            a = inverse_cdf(probs, u[:, t])
            after, r, terminated, cut, _ = self._envs.step(a.numpy())
            memory = policy.update(memory, t, s, a, torch.from_numpy(r), torch.from_numpy(after))
            log_p = torch.log(probs.gather(1, a[:, None]))[:, 0]
            for name, x in zip(_COLUMNS, (observations, a.numpy(), r, log_p.numpy()), strict=False):
                tape[name].append(np.where(_over(alive, x), x[:m], np.zeros_like(x[:m])))
            tape["mask"].append(alive)
            final = np.where(_over(alive, after), after[:m], final)
            finished = finished | (alive & terminated[:m])
            # an environment that has ended resets itself in its next step: nothing of that is ours
            alive = alive & ~terminated[:m] & ~cut[:m]
            observations = after
            if not alive.any():
                break
        return {**tape, "final_states": final, "finished": finished | (alive & (truncation == self.spec.horizon))}

    def close(self) -> None:
        """Close the environments (needed for "async")."""
        self._envs.close()

    def state_dict(self) -> dict[str, Any]:
        """The meter, for checkpoints; episodes need no more."""
        return {"meter": self.meter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` saved."""
        self.meter.load_state_dict(state["meter"])


_COLUMNS = ("states", "actions", "rewards", "log_probs_sampler", "mask")


def _largest(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The larger size of two bounds where both are finite and not beyond 1e6, else 1; never 0."""
    size = np.maximum(np.abs(low.astype(float)), np.abs(high.astype(float)))
    return np.where((size > 0) & (size <= 1e6), size, 1.0)


def _rows_first(column: list[np.ndarray], steps: int) -> np.ndarray:
    """A list over time of [m, ...] as [m, steps, ...], padded with zeros."""
    x = np.stack(column, axis=1)
    return np.concatenate([x, np.zeros((len(x), steps - x.shape[1], *x.shape[2:]), x.dtype)], axis=1)


def _over(alive: np.ndarray, x: np.ndarray) -> np.ndarray:
    """``alive`` [m] with trailing axes of length 1, to select whole observations."""
    return alive.reshape(-1, *(1,) * (x.ndim - 1))
