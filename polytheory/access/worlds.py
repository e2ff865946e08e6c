"""Episodes in a physical system whose constants lie in a box: every episode has constants of its own, and keeps them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.access._grants import Grant, Key, Meter, Requests, Spec, check_grants
from polytheory.errors import SettingError
from polytheory.models.physics import Physics
from polytheory.streams import uniforms
from polytheory.trajectories import Trajectories, discounts

DRAWS = 2  # uniforms that a policy gets for one action


class Worlds:
    """The family of all worlds in a box of parameters, under one meter; one replica, in torch on the CPU.

    The parameters of an episode are drawn uniformly from the box by its row's own stream, so that the whole box is domain
    randomisation and a point (`at`) one fixed world. Policies have ``start(n)``, ``act(m, h, s, u) -> a`` (``u`` [n, 2]
    uniforms) and ``update(m, h, s, a, r, s2)``; actions are whole numbers [n] or numbers [n, 1] in [-1, 1].

    Args:
        physics: the system.
        gamma: discount of the objective, in [0, 1).
        truncation: steps of an episode at most, >= 1; None takes the system's time limit.
    """

    grants: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    replicas = 1

    def __init__(self, physics: Physics, *, gamma: float = 0.99, truncation: int | None = None):
        if not 0 <= gamma < 1:
            raise SettingError(f"gamma = {gamma}; it must lie in [0, 1)")
        self.truncation = physics.time_limit if truncation is None else truncation
        if self.truncation < 1:
            raise SettingError(f"truncation = {truncation}; an episode needs at least 1 step")
        self.physics, self.meter = physics, Meter()
        self.low, self.high = np.array(physics.low), np.array(physics.high)
        box = ", ".join(f"{x} {a:g} to {b:g}" for x, a, b in zip(physics.uncertain, self.low, self.high, strict=True))
        name = f"{physics.name} ({box}; {self.truncation} steps)"
        self.spec = Spec(None, physics.actions, None, gamma, physics.reward_range, name=name)

    @property
    def nominal(self) -> Float[np.ndarray, " k"]:
        """The nominal parameters."""
        return self.physics.nominal

    def at(self, parameters: Float[np.ndarray, "*n k"]) -> Worlds:
        """The same system at fixed parameters [k], or at those of each row [n, k]; it shares the meter."""
        there = Worlds(self.physics, gamma=self.spec.gamma, truncation=self.truncation)
        there.meter = self.meter
        there.low = there.high = np.asarray(parameters, dtype=float)
        return there

    def ask(self, grant: Grant) -> None:
        """Raise `AccessError` unless the grant is given."""
        check_grants((grant,), self.grants, "this question", type(self).__name__)

    def starts(self, key: Key, row_id: Any) -> torch.Tensor:
        """First observations of episodes [n, obs]."""
        return self.physics.observe(self._start(key, torch.as_tensor(row_id)))

    def _start(self, key: Key, row_id: torch.Tensor) -> torch.Tensor:
        return self.physics.start(uniforms(key.seed, f"{key.purpose}/start", key.step, row_id, self.physics.state_size))

    def rollouts(self, policy: Any, requests: Requests, key: Key) -> Trajectories:
        """One episode a request: observations [n, t, obs] in float64, actions [n, t] or [n, t, 1]. ``finished`` where the
        system ended the episode, not where it was cut."""
        if requests.start is not None:
            self.ask(Grant.LOCAL_RESET)
        row_id = torch.as_tensor(requests.row_id)
        n, steps = len(row_id), min(requests.truncation, self.truncation)
        s = self._start(key, row_id)
        low, high = (torch.as_tensor(x).expand(n, -1) for x in (self.low, self.high))
        parameters = low + (high - low) * uniforms(key.seed, f"{key.purpose}/world", key.step, row_id, low.shape[-1])
        u = uniforms(*key, row_id, DRAWS * steps).view(n, steps, DRAWS)
        alive, m, tape = torch.ones(n, dtype=torch.bool), policy.start(n), []
        finished, final = torch.zeros(n, dtype=torch.bool), self.physics.observe(s)
        seen = final
        for h in range(steps):
            a = policy.act(m, h, seen, u[:, h])
            s, r, over = self.physics.step(parameters, s, a)
            after = self.physics.observe(s)
            m = policy.update(m, h, seen, a, r, after)
            here = alive[:, None]
            tape.append((torch.where(here, seen, 0.0), torch.where(alive if a.ndim == 1 else here, a, 0),
                         torch.where(alive, r, 0.0), alive))  # fmt: skip
            final, finished = torch.where(here, after, final), finished | (alive & over)
            alive, seen = alive & ~over, after
            if not bool(alive.any()):
                break
        states, actions, rewards, mask = (torch.stack(column, 1) for column in zip(*tape, strict=True))
        self.meter.add("episodes", n)
        self.meter.add("transitions", int(mask.sum()))
        return Trajectories(states, actions, rewards, mask, None, final, finished, requests.group)

    def returns(
        self, policy: Any, parameters: Float[np.ndarray, "m k"], key: Key, episodes: int, *, gamma: float | None = None
    ) -> Float[np.ndarray, "m e"]:
        """Returns of ``episodes`` episodes in each of m worlds, with the same starts and draws in all of them; ``gamma``
        defaults to the objective's."""
        each = np.repeat(np.asarray(parameters, dtype=float), episodes, 0)
        rows = np.tile(np.arange(episodes, dtype=np.int64), len(parameters))
        traj = self.at(each).rollouts(policy, Requests(rows, self.truncation), key)
        weights = torch.as_tensor(discounts(self.spec.gamma if gamma is None else gamma, traj.rewards.shape[1]))
        return (traj.rewards @ weights).view(-1, episodes).numpy()

    def state_dict(self) -> dict[str, Any]:
        """The meter, for checkpoints; episodes need no more."""
        return {"meter": self.meter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` saved."""
        self.meter.load_state_dict(state["meter"])
