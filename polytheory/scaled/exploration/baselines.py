"""What optimistic actor-critics are compared to, for n replicas; see the reference for the methods and their sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from polytheory._typing import Float
from polytheory.access import Spec
from polytheory.exploration.episodic import EpsilonGreedySettings, UcbviSettings
from polytheory.scaled.exploration.actors import StagedPolicy, mirror_step, softmax
from polytheory.scaled.exploration.critics import Seen, optimistic_critic, switch_due
from polytheory.scaled.exploration.episodic import EpisodicLearner, EpisodicState, Many


def hoeffding_bonus(n: Any, B: float, L: float) -> Float[torch.Tensor, "*n S A"]:
    """``B sqrt(L / max(n, 1))``."""
    return B * torch.sqrt(L / n.clamp(min=1).double())


def bernstein_bonus(n: Any, variance: Any, B: float, L: float) -> Float[torch.Tensor, "*n S A"]:
    """``sqrt(2 variance L / n) + 7 B L / (3 n)``, with n at least 1."""
    m = n.clamp(min=1).double()  # whole numbers times a Python number would be float32
    return torch.sqrt(2 * variance * L / m) + 7 * B * L / (3 * m)


def next_variance(n: Any, N: Any, v: Float[torch.Tensor, "n S"], mean: Any) -> Float[torch.Tensor, "n S A"]:
    """Empirical variance of the next value; a sample after which the episode ended counts as 0."""
    ended = (n - N.sum(-1)) * mean**2
    return ((N * (v[:, None, None] - mean[..., None]) ** 2).sum(-1) + ended) / n.clamp(min=1).double()


def _always(now: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(now), dtype=torch.bool, device=now.device)


@dataclass(frozen=True, eq=False)
class LsviUcb(EpisodicLearner):
    """LSVI-UCB; fields as in the reference."""

    rare: bool = False

    def critic(self, seen: Seen, log_weights: Many, spec: Spec) -> Many:
        """The critic of NORA."""
        return optimistic_critic(seen, *self.facts(spec, log_weights.device), self.lam)

    def due(self, now: Any, before: Any) -> Any:
        """Always, or where a determinant has doubled."""
        return switch_due(now, before) if self.rare else _always(now)

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """Greedy in the critic; the first of the best actions."""
        return StagedPolicy(state.f, soft=False)


class Ucbvi(UcbviSettings, EpisodicLearner):
    """UCBVI; fields, bonuses and constants as in the reference."""

    def critic(self, seen: Seen, log_weights: Many, spec: Spec) -> Many:
        """Backward over the stages on the empirical models."""
        _, known, _, caps = self.facts(spec, log_weights.device)
        f, v = torch.zeros_like(seen.R), torch.zeros_like(seen.R[:, 0, :, 0])
        scale, L = self.factors(spec)
        for h in reversed(range(f.shape[1])):
            m = seen.n[:, h].clamp(min=1).double()
            N = seen.N[:, h].to(v.dtype)
            mean = torch.bmm(N.flatten(1, 2), v[:, :, None]).view(m.shape) / m
            r = seen.R[:, h] / m if known is None else known[h]
            if self.bonus == "hoeffding":
                b = hoeffding_bonus(seen.n[:, h], float(caps[h]), L)
            else:
                b = bernstein_bonus(seen.n[:, h], next_variance(seen.n[:, h], N, v, mean), float(caps[h]), L)
            estimate = (r + mean + scale * b).clamp(max=float(caps[h]))
            f[:, h] = torch.where(seen.n[:, h] == 0, float(caps[h]), estimate)
            v = f[:, h].amax(-1)
        return f

    def due(self, now: Any, before: Any) -> Any:
        """After every episode."""
        return _always(now)

    def gauge(self, seen: Seen) -> Float[torch.Tensor, "n H"]:
        """Nothing is tested."""
        return torch.zeros_like(seen.R[..., 0, 0])

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """Greedy in the critic; the first of the best actions."""
        return StagedPolicy(state.f, soft=False)


class EpsilonGreedyActorCritic(EpsilonGreedySettings, EpisodicLearner):
    """An actor-critic as it is usually written, without optimism; fields as in the reference."""

    def critic(self, seen: Seen, log_weights: Many, spec: Spec) -> Many:
        """The value of the actors' own policies."""
        return optimistic_critic(seen, *self.facts(spec, log_weights.device), self.lam, softmax(log_weights))

    def due(self, now: Any, before: Any) -> Any:
        """After every episode."""
        return _always(now)

    def act(self, state: EpisodicState, spec: Spec, due: Any) -> Many:
        """A mirror step."""
        return mirror_step(state.log_weights, state.f, self.eta)

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """The actors, mixed with the uniform policy."""
        return StagedPolicy(state.log_weights, epsilon=self.epsilon)
