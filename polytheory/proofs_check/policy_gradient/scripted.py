"""An access that answers with given trajectories and remembers what it was asked: one iteration under a magnifier."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from polytheory.access import Key, Requests
from polytheory.proofs_check.policy_gradient.instances import Case
from polytheory.trajectories import Trajectories


@dataclass(eq=False)
class Script:
    """Fields: ``asked`` the (use, theta) of every request in order; ``answers`` the trajectories by use, NumPy."""

    room: Any
    case: Case
    answers: dict[str, Trajectories]
    asked: list[tuple[str, np.ndarray]] = field(default_factory=list)
    replicas: int = 1

    @property
    def spec(self) -> Any:
        """What a learner may know: the model has all of it."""
        return self.case.model

    def rollouts(self, policy: Any, requests: Requests, key: Key) -> Trajectories:
        """The trajectories scripted for this use."""
        from polytheory.proofs_check._rooms import outward

        use = key.purpose.rpartition("/")[2]
        self.asked.append((use, np.asarray(outward(policy.theta)).reshape(-1)))
        return self.room.inward(self.answers[use])

    def theta_asked(self, use: str) -> np.ndarray:
        """The parameters that the trajectories of this use were asked for, which must be once."""
        (found,) = (theta for name, theta in self.asked if name == use)
        return found


def rows(traj: Trajectories, chosen: list[int]) -> Trajectories:
    """Some rows of trajectories."""
    return Trajectories(np.asarray(traj.states)[chosen], traj.actions[chosen], traj.rewards[chosen], traj.mask[chosen])


def one_step(room: Any, algorithm: str, case: Case, d: np.ndarray, t: int, seed: int = 0) -> tuple[dict, Script]:
    """One iteration from (theta = other, theta_prev = theta, d) at time t; returns the new state's arrays and the script.

    Every use gets its own two trajectories.
    """
    from polytheory.proofs_check._rooms import outward

    p, every = case.trajectories()
    n = len(p)
    picks = {"tau": [0, n // 2], "tau_hat": [n - 1, n // 3]}
    script = Script(room, case, {use: rows(every, chosen) for use, chosen in picks.items()})
    made = room.make(algorithm, policy=case.policy(room), truncation=case.truncation, gamma0=0.5, batch=2)
    state = made.init(script, seed)
    put = {
        name: room.inward(room.batch(x)) for name, x in (("theta", case.other), ("theta_prev", case.theta), ("d", d))
    }
    state, info = made.step(replace(state, t=t, **put), script)
    new = {name: np.asarray(outward(getattr(state, name))).reshape(-1) for name in ("theta", "theta_prev", "d")}
    return new | {"info": {k: float(np.ravel(outward(v))[0]) for k, v in info.items()}}, script


def path_of(room: Any, algorithm: str, access: Any, steps: int, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Parameters [steps + 1, d] and directions [steps, d] of one run."""
    from polytheory.proofs_check._rooms import outward

    made = room.make(algorithm, **settings)
    access = access if room.name == "reference" else access.replicate(1)
    state = made.init(access, 0)
    thetas, ds = [np.array(outward(state.theta)).reshape(-1)], []
    for _ in range(steps):
        state, _info = made.step(state, access)
        thetas.append(np.array(outward(state.theta)).reshape(-1))
        ds.append(np.array(outward(state.d)).reshape(-1))
    return np.stack(thetas), np.stack(ds)
