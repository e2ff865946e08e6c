"""What the two off-policy learners share: episodes into a replay, updates from it, plain data as state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Bool, Float
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.policies import Memoryless
from polytheory.scaled.robust.deep_networks import Mlp, adam
from polytheory.streams import subseed

Agent = dict[str, torch.Tensor]
COLUMNS = ("observations", "actions", "rewards", "after", "goes_on")


@dataclass(eq=False)
class LearnerState:
    """State of a learner.

    Fields: ``theta`` parameters by network (targets too); ``moments`` [2, d] of Adam by network; ``updates`` made;
    ``replay`` columns [N, ...] `COLUMNS`; ``t`` iterations; ``seed``.
    """

    theta: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]
    updates: int
    replay: dict[str, torch.Tensor]
    t: int
    seed: int


@dataclass(frozen=True)
class OffPolicy:
    """Base of the learners; an iteration plays a few episodes, then makes updates from the replay.

    Fields:
        iterations: until done, >= 1.
        episodes: of an iteration, played at the same time.
        updates: of an iteration.
        warmup: first iterations whose actions are uniform.
        batch: transitions of an update (paper: 256).
        hidden: units of each of the two hidden layers (paper: 256).
        lr: of the critics (paper: 1e-3). lr_actor: of the actor (paper: 3e-4).
        polyak: share of the old target critics that an update keeps (paper: 0.995).
        capacity: transitions kept (paper: 1e6).
        dynamics: whether to learn the one-step model that says where a critic may be trusted.
    """

    iterations: int = 15
    episodes: int = 4
    updates: int = 400
    warmup: int = 1
    batch: int = 256
    hidden: int = 64
    lr: float = 1e-3
    lr_actor: float = 1e-3
    polyak: float = 0.995
    capacity: int = 1_000_000
    dynamics: bool = False

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})

    def __post_init__(self) -> None:
        for name in ("iterations", "episodes", "updates", "batch", "hidden", "capacity"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least 1")
        if not (self.lr > 0 and self.lr_actor > 0 and 0 <= self.polyak < 1 and self.warmup >= 0):
            raise SettingError("lr and lr_actor must be positive, polyak in [0, 1) and warmup >= 0")

    def networks(self, access: Any) -> dict[str, Mlp]:
        """The trained networks by name."""
        raise TypeError(f"{type(self).__name__} is a base")

    def update(self, state: LearnerState, access: Any, batch: dict[str, torch.Tensor], g: torch.Generator) -> None:
        """One update of all networks, in place."""
        raise TypeError(f"{type(self).__name__} is a base")

    def agent(self, state: LearnerState) -> Agent:
        """What acting and comparing need, frozen."""
        names = ["critic", *(x for x in ("actor", "dynamics") if x in state.theta)]
        return {name: state.theta[name].clone() for name in names}

    def init(self, access: Any, seed: int, replica: int = 0) -> LearnerState:
        """Fresh networks and an empty replay."""
        g = torch.Generator().manual_seed(subseed(seed, "off-policy/init", replica) & 0x7FFFFFFF)
        theta = {name: net.init(g) for name, net in self.networks(access).items()}
        moments = {name: torch.zeros(2, len(x)) for name, x in theta.items()}
        return LearnerState({**theta, "target": theta["critic"].clone()}, moments, 0, {}, 0, subseed(seed, "", replica))

    def step(self, state: LearnerState, access: Any) -> tuple[LearnerState, Info]:
        """Play, remember, update."""
        rows = np.arange(self.episodes, dtype=np.int64)
        with torch.no_grad():
            traj = access.rollouts(
                self.explorer(state, access), Requests(rows, access.truncation), Key(state.seed, "off-policy", state.t)
            )
        new = transitions(traj)
        state.replay = {
            name: torch.cat([state.replay[name], new[name]])[-self.capacity :] if state.replay else new[name]
            for name in COLUMNS
        }
        g = torch.Generator().manual_seed(subseed(state.seed, "off-policy/updates", state.t) & 0x7FFFFFFF)
        for batch in self._batches(state.replay, g):
            state.updates += 1
            self.update(state, access, batch, g)
        state.t += 1
        info = {"return": float(traj.rewards.sum(-1).mean()), "length": float(traj.mask.sum(-1).double().mean())}
        return state, info

    def _batches(self, replay: dict[str, torch.Tensor], g: torch.Generator) -> Iterator[dict[str, torch.Tensor]]:
        for _ in range(self.updates):
            i = torch.randint(len(replay["rewards"]), (self.batch,), generator=g)
            yield {name: x[i] for name, x in replay.items()}

    def explorer(self, state: LearnerState, access: Any) -> Any:
        """What is played while learning."""
        raise TypeError(f"{type(self).__name__} is a base")

    def policy(self, state: LearnerState) -> Any:
        """What was learned, without exploration."""
        return self.policy_of(self.agent(state))

    def policy_of(self, agent: Agent) -> Any:
        """An agent's best actions."""
        return Greedy(self, agent)

    def done(self, state: LearnerState) -> bool:
        """True after ``iterations``."""
        return state.t >= self.iterations

    def descend(self, state: LearnerState, name: str, loss: torch.Tensor, theta: torch.Tensor, lr: float) -> None:
        """One Adam step of a network on a loss; ``theta`` is the leaf that the loss was computed with."""
        (gradient,) = torch.autograd.grad(loss, theta)
        adam(state.theta[name], gradient, state.moments[name], state.updates, lr)

    def fit_dynamics(self, state: LearnerState, batch: dict[str, torch.Tensor]) -> None:
        """One step on the L1 error of the predicted next observation [zouitine2024, section 5]."""
        theta = state.theta["dynamics"].detach().requires_grad_()
        s, x = batch["observations"], self.inputs(batch["actions"])
        found = predicted(self._dynamics(s.shape[-1], x.shape[-1]), theta, s, x)
        self.descend(state, "dynamics", (found - batch["after"]).abs().sum(-1).mean(), theta, self.lr)

    def inputs(self, actions: torch.Tensor) -> Float[torch.Tensor, "n k"]:
        """Actions as a network sees them."""
        return actions.float()

    def expected(self, agent: Agent, s: torch.Tensor, a: torch.Tensor) -> Float[torch.Tensor, "n obs"]:
        """Next observations as the agent's one-step model expects them."""
        s, x = s.float(), self.inputs(a)
        return predicted(self._dynamics(s.shape[-1], x.shape[-1]), agent["dynamics"], s, x)

    def _dynamics(self, obs: int, inputs: int) -> Mlp:
        return Mlp((obs + inputs, self.hidden, obs))


def transitions(traj: Any) -> dict[str, torch.Tensor]:
    """The steps of episodes as rows in float32; ``goes_on`` is False at an end, not at a cut."""
    row, t = traj.mask.nonzero(as_tuple=True)
    last = t == traj.mask.sum(-1)[row] - 1
    following = traj.states[row, (t + 1).clamp(max=traj.states.shape[1] - 1)]
    after = torch.where(last[:, None], traj.final_states[row], following)
    actions = traj.actions[row, t]
    return {
        "observations": traj.states[row, t].float(), "actions": actions if actions.ndim == 1 else actions.float(),
        "rewards": traj.rewards[row, t].float(), "after": after.float(), "goes_on": ~(last & traj.finished[row]),
    }  # fmt: skip


def predicted(
    net: Mlp, theta: Float[torch.Tensor, " d"], s: Float[torch.Tensor, "n obs"], a: Float[torch.Tensor, "n k"]
) -> Float[torch.Tensor, "n obs"]:
    """Next observation of the one-step model, which learns the change."""
    return s + net(theta, torch.cat([s, a], -1))[0]


def nowhere_invalid(agents: int, n: int) -> Bool[torch.Tensor, "J n"]:
    """Every critic valid in every row."""
    return torch.ones(agents, n, dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class Greedy(Memoryless):
    """One agent's best action."""

    learner: Any
    agent: Agent

    def act(self, m: Any, h: int, s: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Actions; the uniforms are not used."""
        with torch.no_grad():
            return self.learner.pessimist((self.agent,), s, nowhere_invalid(1, len(s)))[0]
