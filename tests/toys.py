"""Small algorithms for tests of the driver; also run as a command that tests may kill.

python toys.py NAME FOLDER STEPS EVERY
"""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytheory.access import Grant, Key, KnownModel, Online, Requests
from polytheory.models import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.streams import row_ids


def chain(S: int = 4) -> TabularMDP:
    """Left or right on a line, slippery; reward at the right end."""
    P = np.zeros((S, 2, S))
    for s in range(S):
        for a, move in enumerate((-1, 1)):
            P[s, a, np.clip(s + move, 0, S - 1)] += 0.8
            P[s, a, s] += 0.2
    r = np.zeros((S, 2))
    r[S - 1, 1] = 1.0
    return TabularMDP(P, r, np.eye(S)[0], gamma=0.9, horizon=6)


@dataclass(eq=False)
class LearnerState:
    seed: int
    replica: int
    step: int
    theta: np.ndarray
    seen: list[np.ndarray] = field(default_factory=list)
    best: tuple[float, int] | None = None


@dataclass(frozen=True)
class Learner:
    """A little policy gradient with containers that grow."""

    step_size: float = 0.1
    batch: int = 3
    pause: float = 0.0
    requires = frozenset({Grant.EPISODE})

    def init(self, access, seed, replica=0):
        return LearnerState(seed, replica, 0, np.zeros((access.spec.S, access.spec.A)))

    def step(self, state, access):
        time.sleep(self.pause)
        ids = row_ids(state.replica, np.arange(self.batch))
        batch = access.rollouts(self.policy(state), Requests(ids, 6), Key(state.seed, "toy", state.step))
        returns = batch.rewards.sum(axis=1)
        theta = state.theta.copy()
        np.add.at(theta, (batch.states, batch.actions), self.step_size * (returns - 0.3)[:, None] * batch.mask)
        seen = [*state.seen, returns][-5:] if state.step % 7 else []
        best = max(state.best or (-1.0, -1), (float(returns.mean()), state.step))
        new = LearnerState(state.seed, state.replica, state.step + 1, theta, seen, best)
        return new, {"return": returns.mean(), "returns": returns, "endless": np.inf}

    def policy(self, state):
        e = np.exp(state.theta - state.theta.max(axis=1, keepdims=True))
        return TabularPolicy(e / e.sum(axis=1, keepdims=True))

    def done(self, state):
        return False


@dataclass(frozen=True)
class Countdown(Learner):
    """A planner that certifies its result after ``n`` steps."""

    n: int = 5
    requires = frozenset({Grant.MODEL, Grant.EPISODE})

    def done(self, state):
        return state.step >= self.n


@dataclass(frozen=True)
class HiddenGenerator(Learner):
    """Wrong: draws from a generator that is no part of the state."""

    rng: Any = field(default_factory=lambda: np.random.default_rng(0))

    def step(self, state, access):
        state, info = super().step(state, access)
        state.theta[0, 0] += self.rng.normal()
        return state, info


@dataclass(frozen=True)
class HiddenAttribute(Learner):
    """Wrong: keeps momentum in an attribute that is no field of the state."""

    def step(self, state, access):
        new, info = super().step(state, access)
        new.momentum = 0.5 * getattr(state, "momentum", 0.0) + info["return"]
        new.theta[0, 0] += new.momentum
        return new, info


@dataclass(eq=False)
class TorchState:
    seed: int
    step: int
    module: Any
    optimiser: Any
    theta: Any
    theta_optimiser: Any
    average: Any


@dataclass(frozen=True)
class TorchLearner:
    """A network with dropout under Adam, a bare parameter under SGD with momentum, and an average in bfloat16."""

    requires = frozenset({Grant.EPISODE})

    def init(self, access, seed, replica=0):
        import torch

        S, A = access.spec.S, access.spec.A
        net = torch.nn.Sequential(torch.nn.Linear(S, 8), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(8, A))
        theta = torch.zeros(S, A, requires_grad=True)
        average = torch.zeros(A, S, dtype=torch.bfloat16).T
        adam = torch.optim.Adam(net.parameters(), lr=0.05)
        return TorchState(seed, 0, net, adam, theta, torch.optim.SGD([theta], lr=0.1, momentum=0.9), average)

    def step(self, state, access):
        import torch

        ids = row_ids(0, np.arange(4))
        batch = access.rollouts(self.policy(state), Requests(ids, 6), Key(state.seed, "toy", state.step))
        state.module.train()
        logits = state.module(torch.eye(len(state.theta))) + state.theta
        log_p = torch.log_softmax(logits, -1)[torch.as_tensor(batch.states), torch.as_tensor(batch.actions)]
        loss = -(log_p * torch.as_tensor(batch.rewards - 0.1, dtype=log_p.dtype)).mean()
        for optimiser in (state.optimiser, state.theta_optimiser):
            optimiser.zero_grad()
        loss.backward()
        for optimiser in (state.optimiser, state.theta_optimiser):
            optimiser.step()
        state.average = (0.9 * state.average + 0.1 * state.theta.detach()).to(torch.bfloat16)
        state.step += 1
        return state, {"loss": loss.detach()}

    def policy(self, state):
        import torch

        state.module.eval()
        with torch.no_grad():
            logits = state.module(torch.eye(len(state.theta))) + state.theta
        return TabularPolicy(torch.softmax(logits.double(), -1).numpy())

    def done(self, state):
        return False


def main(name: str, folder: str, steps: str, every: str) -> None:
    from polytheory.run import run

    # a shell that runs the tests in the background hands down an ignored SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    algorithm = {"learner": Learner(), "slow": Learner(pause=0.2), "stuck": Learner(pause=60.0)}[name]
    access = KnownModel(chain()) if isinstance(algorithm, Countdown) else Online(chain())
    print("ready", flush=True)
    end = run(algorithm, access, steps=int(steps), seed=3, checkpoint=folder, every=every)
    print(end.status, end.steps, end.state.theta.tobytes().hex(), end.meter.total("transitions"))


if __name__ == "__main__":
    main(*sys.argv[1:])
