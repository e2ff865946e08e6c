"""Double Q-learning with two critics, for a finite number of actions [vanhasselt2016]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from polytheory.errors import SettingError
from polytheory.policies import Memoryless
from polytheory.scaled.robust.deep_learners import Agent, LearnerState, OffPolicy
from polytheory.scaled.robust.deep_networks import Mlp
from polytheory.scaled.robust.deep_targets import bootstrapped, critic_loss, double_q_value, smallest_of_all


@dataclass(frozen=True)
class Dqn(OffPolicy):
    """Double Q-learning; fields of `OffPolicy` and two more.

    Fields: ``epsilon`` share of uniform actions while learning, in [0, 1]; ``actions`` number of actions of the system.
    """

    epsilon: float = 0.1
    actions: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon <= 1:
            raise SettingError(f"epsilon = {self.epsilon}; it must lie in [0, 1]")

    def networks(self, access: Any) -> dict[str, Mlp]:
        """Two critics with an output for each action, and the one-step model."""
        obs = access.physics.observation_size
        if access.spec.A != self.actions:
            raise SettingError(f"Dqn has {self.actions} actions, {access.spec.name} has {access.spec.A}")
        nets = {"critic": self._critic(obs)}
        return nets | ({"dynamics": self._dynamics(obs, self.actions)} if self.dynamics else {})

    def _critic(self, obs: int) -> Mlp:
        return Mlp((obs, self.hidden, self.hidden, self.actions), 2)

    def update(self, state: LearnerState, access: Any, batch: dict[str, torch.Tensor], g: torch.Generator) -> None:
        """One step towards the double-Q targets."""
        theta = state.theta["critic"].detach().requires_grad_()
        net = self._critic(batch["observations"].shape[-1])
        with torch.no_grad():
            v = double_q_value(net(theta, batch["after"]), net(state.theta["target"], batch["after"]))
            y = bootstrapped(batch["rewards"], batch["goes_on"], v, access.spec.gamma)
        q = net(theta, batch["observations"])
        taken = q.gather(-1, batch["actions"].expand(2, -1)[..., None])[..., 0]
        self.descend(state, "critic", critic_loss(taken, y.expand(2, -1)), theta, self.lr)
        state.theta["target"].lerp_(state.theta["critic"], 1 - self.polyak)
        if self.dynamics:
            self.fit_dynamics(state, batch)

    def inputs(self, actions: torch.Tensor) -> torch.Tensor:
        """Actions one-hot."""
        return torch.nn.functional.one_hot(actions, self.actions).float()

    def explorer(self, state: LearnerState, access: Any) -> EpsilonGreedy:
        """Epsilon-greedy; uniform during the warm-up."""
        agent = self.agent(state)
        return EpsilonGreedy(self, agent, 1.0 if state.t < self.warmup else self.epsilon)

    def pessimist(
        self, agents: tuple[Agent, ...], s: torch.Tensor, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Best action of the smallest action values among the valid agents, and that value (infinite where none is)."""
        q = torch.stack([self.critic(agent, s).amin(0) for agent in agents])
        return smallest_of_all(q, valid)

    def critic(self, agent: Agent, s: torch.Tensor) -> torch.Tensor:
        """Both critics [2, n, A]."""
        return self._critic(s.shape[-1])(agent["critic"], s.float())


@dataclass(frozen=True, eq=False)
class EpsilonGreedy(Memoryless):
    """The best action, or with probability epsilon any."""

    learner: Dqn
    agent: Agent
    epsilon: float

    def act(self, m: Any, h: int, s: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Actions from two uniforms a row."""
        best = self.learner.critic(self.agent, s).amin(0).argmax(-1)
        return torch.where(u[:, 0] < self.epsilon, (u[:, 1] * self.learner.actions).long(), best)
