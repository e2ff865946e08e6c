"""Soft actor-critic for numbers as actions, with a second pair of critics without entropy [zouitine2024, section 5]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from polytheory.policies import Memoryless
from polytheory.scaled.robust.deep_learners import Agent, LearnerState, OffPolicy
from polytheory.scaled.robust.deep_networks import Mlp, adam
from polytheory.scaled.robust.deep_targets import (
    actor_loss,
    bootstrapped,
    critic_loss,
    entropic_value,
    gaussian_of,
    plain_value,
    smallest_of_own,
    squashed,
    temperature_gradient,
)

SIZE = 1  # numbers in an action
SOFT, PLAIN = slice(0, 2), slice(2, 4)  # of the four critics: for the actor, and for the search


@dataclass(frozen=True)
class Sac(OffPolicy):
    """Soft actor-critic; fields of `OffPolicy`.

    The temperature keeps the entropy near minus the number of numbers in an action [haarnoja2018, second version].
    """

    def networks(self, access: Any) -> dict[str, Mlp]:
        """Four critics, the actor, and the one-step model."""
        obs = access.physics.observation_size
        nets = {"critic": self._critic(obs), "actor": self._actor(obs)}
        return nets | ({"dynamics": self._dynamics(obs, SIZE)} if self.dynamics else {})

    def _critic(self, obs: int) -> Mlp:
        return Mlp((obs + SIZE, self.hidden, self.hidden, 1), 4)

    def _actor(self, obs: int) -> Mlp:
        return Mlp((obs, self.hidden, self.hidden, 2 * SIZE))

    def init(self, access: Any, seed: int, replica: int = 0) -> LearnerState:
        """Fresh networks, temperature 1, an empty replay."""
        state = super().init(access, seed, replica)
        state.theta["log_alpha"], state.moments["log_alpha"] = torch.zeros(1), torch.zeros(2, 1)
        return state

    def update(self, state: LearnerState, access: Any, batch: dict[str, torch.Tensor], g: torch.Generator) -> None:
        """One step of the critics, the actor and the temperature."""
        s, after = batch["observations"], batch["after"]
        critic, actor = self._critic(s.shape[-1]), self._actor(s.shape[-1])
        z = torch.randn(2, len(s), SIZE, generator=g)
        alpha = math.exp(float(state.theta["log_alpha"]))
        with torch.no_grad():
            a, log_p = squashed(*gaussian_of(actor(state.theta["actor"], after)[0]), z[0])
            q = _values(critic, state.theta["target"], after, a)
            v = torch.stack([entropic_value(q[SOFT], log_p, alpha), plain_value(q[PLAIN])])
            y = torch.stack([bootstrapped(batch["rewards"], batch["goes_on"], x, access.spec.gamma) for x in v])
        theta = state.theta["critic"].detach().requires_grad_()
        loss = critic_loss(_values(critic, theta, s, batch["actions"]), y.repeat_interleave(2, 0))
        self.descend(state, "critic", loss, theta, self.lr)
        theta = state.theta["actor"].detach().requires_grad_()
        a, log_p = squashed(*gaussian_of(actor(theta, s)[0]), z[1])
        self.descend(
            state,
            "actor",
            actor_loss(_values(critic, state.theta["critic"], s, a)[SOFT], log_p, alpha),
            theta,
            self.lr_actor,
        )
        slope = torch.full((1,), temperature_gradient(log_p.detach(), -float(SIZE), alpha))
        adam(state.theta["log_alpha"], slope, state.moments["log_alpha"], state.updates, self.lr_actor)
        state.theta["target"].lerp_(state.theta["critic"], 1 - self.polyak)
        if self.dynamics:
            self.fit_dynamics(state, batch)

    def explorer(self, state: LearnerState, access: Any) -> Sampled:
        """Actions of the actor's law; uniform during the warm-up."""
        return Sampled(self, self.agent(state), state.t < self.warmup)

    def pessimist(
        self, agents: tuple[Agent, ...], s: torch.Tensor, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The action of the valid agent that expects least of its own action, and what it expects."""
        s = s.float()
        critic, actor = self._critic(s.shape[-1]), self._actor(s.shape[-1])
        actions = [torch.tanh(gaussian_of(actor(agent["actor"], s)[0])[0]) for agent in agents]
        q = [_values(critic, x["critic"], s, a)[PLAIN].amin(0) for x, a in zip(agents, actions, strict=True)]
        return smallest_of_own(torch.stack(q), torch.stack(actions), valid)


def _values(critic: Mlp, theta: torch.Tensor, s: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    return critic(theta, torch.cat([s, a], -1))[..., 0]


@dataclass(frozen=True, eq=False)
class Sampled(Memoryless):
    """A draw of the actor's law, or of the uniform one."""

    learner: Sac
    agent: Agent
    uniform: bool

    def act(self, m: Any, h: int, s: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Actions [n, 1] from two uniforms a row (a normal by Box and Muller)."""
        if self.uniform:
            return 2 * u[:, :1] - 1
        z = torch.sqrt(-2 * torch.log1p(-u[:, :1])) * torch.cos(2 * math.pi * u[:, 1:])
        out = self.learner._actor(s.shape[-1])(self.agent["actor"], s.float())[0]
        return squashed(*gaussian_of(out), z.float())[0].double()
