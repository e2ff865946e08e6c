"""The deep form of NORA: the last layer of a network is the linear critic, its features make the bonus.

Setting: discounted or episodic, any observations; one critic for all stages. It is the algorithm of the tables with three
changes, none of which the theorem covers: the features ``phi(o)`` come from a torso that is fitted at every switch, one matrix
``Lambda_a`` per action is shared by all stages, and the regression is iterated to a fixed point instead of once per stage.

Update::

    if log det Lambda has risen by `rise` since the last switch:
        torso <- `torso_steps` Adam steps on the squared error to the critic's own targets
        Lambda_a, w_a from all data with the new features, `sweeps` times: regress r + gamma max_a' q(o', a')
        n <- 0                                                                            (the reset)
    n <- n + 1,      pi(a | o) propto exp(n eta q(o, a)),
    q(o, a) = clip(phi . w_a + radius |phi|_{Lambda_a^-1}, low, high)

Between two switches the critic is frozen, so the actor needs no network of its own: a counter is enough.

References: [tan2025] as in `optimistic_actor_critic`. [osband2020] bsuite, ICLR 2020. [azizzadenesheli2018] Efficient
Exploration through Bayesian Deep Q-Networks (a linear last layer for exploration).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.func import functional_call

from polytheory._typing import Float
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.policies import Memoryless
from polytheory.scaled.exploration.actors import softmax
from polytheory.scaled.exploration.torsos import as_it_is
from polytheory.streams import row_ids


@dataclass(eq=False)
class DeepState:
    """State of the deep learner.

    Fields:
        theta: parameters of the torso by name.
        w: [A, k] the last layer.
        Lambda: [A, k, k] of all data. frozen: [A, k, k] its inverse at the last switch.
        log_det: of Lambda at the last switch, summed over the actions.
        points: [m, obs] the observations met, each once. phi: [m, k] their features.
        at, actions, rewards, after, goes_on: [N] the data; ``at`` and ``after`` are rows of ``points``.
        since_reset, switches, t: counters. seed, replica.
    """

    theta: dict[str, torch.Tensor]
    w: torch.Tensor
    Lambda: torch.Tensor
    frozen: torch.Tensor
    log_det: float
    points: torch.Tensor
    phi: torch.Tensor
    at: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    after: torch.Tensor
    goes_on: torch.Tensor
    since_reset: int
    switches: int
    t: int
    seed: int
    replica: int


@dataclass(frozen=True, eq=False)
class DeepNora:
    """Deep NORA; one learner.

    Example: ``DeepNora(torso, 30, (0.0, 1.0), **bonus_scales(30, (0.0, 1.0)))``.

    Fields:
        torso: module from observations [n, obs] to features [n, k]; they are scaled to norm 1.
        truncation: steps of an episode at most.
        value_range: smallest and largest value; an upper end that is too low is no longer optimistic.
        encode: ``(stage, states) -> observations``; the stage is a number or a tensor like the states.
        eta: learning rate of the actor, per update.
        epsilon: share of the uniform policy, in [0, 1].
        radius: of the bonus, in units of the value; 0 is no optimism.
        lam: ridge weight, > 0.
        rise: of the log-determinant before a switch, > 0 (the theorem takes log 2 for each stage; here it is one for all).
            No default fits two tasks, and the three must fit one another: `bonus_scales` gives them.
        sweeps: regressions at a switch.
        torso_steps: Adam steps on the torso at a switch, with learning rate ``lr``; 0 keeps its features.
        reset: whether the actor starts afresh at a switch.
        batch: episodes a step.
        gamma: discount of the critic's targets.
    """

    torso: torch.nn.Module
    truncation: int
    value_range: tuple[float, float]
    encode: Callable[[Any, torch.Tensor], torch.Tensor] = as_it_is
    eta: float = 5.0
    epsilon: float = 0.0
    radius: float = field(kw_only=True)
    lam: float = field(kw_only=True)
    rise: float = field(kw_only=True)
    sweeps: int = 30
    torso_steps: int = 0
    lr: float = 1e-3
    reset: bool = True
    batch: int = 1
    gamma: float = 1.0

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})

    def __post_init__(self) -> None:
        low, high = self.value_range
        if not low < high:
            raise SettingError(f"value_range = {self.value_range}; the lower end must be below the upper one")
        for name in ("truncation", "sweeps", "batch"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least 1")
        for name in ("eta", "lam", "rise"):
            if not getattr(self, name) > 0:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be positive")
        if self.radius < 0 or self.torso_steps < 0 or not 0 <= self.epsilon <= 1:
            raise SettingError("radius and torso_steps must be >= 0, and epsilon in [0, 1]")

    def init(self, access: Any, seed: int, replica: int = 0) -> DeepState:
        """No data yet; every value is the largest where there is a bonus."""
        theta = {name: x.detach().clone() for name, x in self.torso.named_parameters()}
        sample = self.encode(0, _first_states(access))
        k, A = self.features(theta, sample).shape[-1], access.spec.A
        Lambda = self.lam * torch.eye(k, dtype=torch.float64).repeat(A, 1, 1)
        none = torch.zeros(0, dtype=torch.float64)
        return DeepState(
            theta, torch.zeros(A, k, dtype=torch.float64), Lambda, torch.linalg.inv(Lambda), _log_det(Lambda), sample[:0],
            none.view(0, k), none.long(), none.long(), none, none.long(), none.bool(), 0, 0, 0, seed, replica,
        )  # fmt: skip

    def features(self, theta: dict[str, torch.Tensor], observations: torch.Tensor) -> Float[torch.Tensor, "*n k"]:
        """Last hidden layer, scaled to norm 1, in float64."""
        x = functional_call(self.torso, theta, (observations,)).double()
        return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-9)

    def q(self, state: DeepState, phi: Float[torch.Tensor, "n k"]) -> Float[torch.Tensor, "n A"]:
        """The frozen optimistic critic on features."""
        return self._clipped(phi @ state.w.T + self._bonus(state, phi))

    def _clipped(self, q: Float[torch.Tensor, "n A"]) -> Float[torch.Tensor, "n A"]:
        return q.clamp(*self.value_range)

    def _bonus(self, state: DeepState, phi: Float[torch.Tensor, "n k"]) -> Float[torch.Tensor, "n A"]:
        if self.radius == 0:
            return torch.zeros(len(phi), len(state.w), dtype=torch.float64)
        square = torch.stack([((phi @ inverse) * phi).sum(-1) for inverse in state.frozen], dim=-1)
        return self.radius * square.clamp(min=0.0).sqrt()

    def policy(self, state: DeepState) -> DeepPolicy:
        """The policy that is played next."""
        return DeepPolicy(self, state)

    def done(self, state: DeepState) -> bool:
        """A learner is never done by itself."""
        return False

    def step(self, state: DeepState, access: Any) -> tuple[DeepState, Info]:
        """Play a batch of episodes, record them, switch where that is due, update the actor."""
        requests = Requests(row_ids(state.replica, np.arange(self.batch)), self.truncation)
        with torch.no_grad():
            traj = access.rollouts(self.policy(state), requests, Key(state.seed, "exploration/deep", state.t))
            self._record(state, traj)
            now = _log_det(state.Lambda)
        due = now - state.log_det >= self.rise
        if due:
            self._switch(state)
            state.switches += 1
            state.since_reset = 0 if self.reset else state.since_reset
        state.since_reset += 1
        state.t += 1
        returns = torch.where(traj.mask, traj.rewards, 0.0).sum(-1)
        return state, {
            "return": float(returns.mean()), "switched": float(due), "switches": float(state.switches),
            "since_reset": float(state.since_reset), "length": float(traj.mask.sum(-1).double().mean()),
        }  # fmt: skip

    def _record(self, state: DeepState, traj: Any) -> None:
        row, t = traj.mask.nonzero(as_tuple=True)
        last = t == traj.mask.sum(-1)[row] - 1
        following = traj.states[row, (t + 1).clamp(max=traj.states.shape[1] - 1)]
        over = last.reshape(-1, *(1,) * (following.ndim - 1))
        following = torch.where(over, traj.final_states[row], following)
        goes_on = ~(last & traj.finished[row])
        # a state after the end is never valued: its stage does not matter
        met = torch.cat([self.encode(t, traj.states[row, t]), self.encode(torch.where(goes_on, t + 1, t), following)])
        rows = self._points(state, met)
        now, after = rows.split(len(row))
        columns = {
            "at": now, "actions": traj.actions[row, t], "rewards": traj.rewards[row, t].double(), "after": after,
            "goes_on": goes_on,
        }  # fmt: skip
        for name, x in columns.items():
            setattr(state, name, torch.cat([getattr(state, name), x]))
        for a in range(len(state.w)):
            own = state.phi[now[columns["actions"] == a]]
            state.Lambda[a] += own.T @ own

    def _points(self, state: DeepState, met: torch.Tensor) -> torch.Tensor:
        """Rows of ``state.points`` that hold the observations ``met``; new ones are added at the end, with features."""
        known = len(state.points)
        both, inverse = torch.unique(torch.cat([state.points, met]), dim=0, return_inverse=True)
        # number the distinct rows by first appearance, so that those known keep their places
        first = torch.full((len(both),), len(inverse)).scatter_reduce(0, inverse, torch.arange(len(inverse)), "amin")
        order = first.argsort()
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        fresh = both[order[known:]]
        state.points = torch.cat([state.points, fresh])
        state.phi = torch.cat([state.phi, self.features(state.theta, fresh)])
        return place[inverse[known:]]

    def _switch(self, state: DeepState) -> None:
        """Fit the torso, then the last layer to its fixed point, on all data."""
        if self.torso_steps:
            self._fit_torso(state)
        with torch.no_grad():
            A, m = len(state.w), len(state.points)
            pair = state.actions * m + state.at
            if self.torso_steps:
                state.phi = self.features(state.theta, state.points)
                n = torch.bincount(pair, minlength=A * m).view(A, m, 1)
                state.Lambda = self.lam * torch.eye(state.phi.shape[-1]).double() + (n * state.phi).mT @ state.phi
            state.frozen = torch.cholesky_inverse(torch.linalg.cholesky(state.Lambda))
            state.log_det = _log_det(state.Lambda)
            bonus = self._bonus(state, state.phi)
            for _ in range(self.sweeps):
                y = self._targets(state, self._clipped(state.phi @ state.w.T + bonus))
                sums = torch.zeros(A * m, dtype=torch.float64).index_add_(0, pair, y).view(A, m)
                state.w = torch.stack([inverse @ x for inverse, x in zip(state.frozen, sums @ state.phi, strict=True)])

    def _targets(self, state: DeepState, q: Float[torch.Tensor, "m A"]) -> Float[torch.Tensor, " N"]:
        """What is regressed on, from the values of all points."""
        return state.rewards + self.gamma * torch.where(state.goes_on, q.amax(-1)[state.after], 0.0)

    def _fit_torso(self, state: DeepState) -> None:
        theta = {name: x.clone().requires_grad_() for name, x in state.theta.items()}
        head = state.w.clone().requires_grad_()
        optimiser = torch.optim.Adam([*theta.values(), head], lr=self.lr)
        with torch.no_grad():
            y = self._targets(state, self.q(state, state.phi))
        g = torch.Generator().manual_seed(state.seed * 1_000_003 + state.t)
        for _ in range(self.torso_steps):
            i = torch.randint(len(y), (min(256, len(y)),), generator=g)
            predicted = (self.features(theta, state.points[state.at[i]]) * head[state.actions[i]]).sum(-1)
            optimiser.zero_grad()
            ((predicted - y[i]) ** 2).mean().backward()
            optimiser.step()
        state.theta = {name: x.detach() for name, x in theta.items()}


@dataclass(frozen=True, eq=False)
class DeepPolicy(Memoryless):
    """``softmax(n eta q)`` of the frozen critic, mixed with a uniform share."""

    learner: DeepNora
    state: DeepState

    def probs(self, m: Any, h: int, s: torch.Tensor) -> Float[torch.Tensor, "n A"]:
        """Action probabilities."""
        learner, state = self.learner, self.state
        with torch.no_grad():
            q = learner.q(state, learner.features(state.theta, learner.encode(h, s)))
            probs = softmax(state.since_reset * learner.eta * q)
        return (1 - learner.epsilon) * probs + learner.epsilon / probs.shape[-1]


def _log_det(Lambda: torch.Tensor) -> float:
    return float(2 * torch.linalg.cholesky(Lambda).diagonal(dim1=-2, dim2=-1).log().sum())


def _first_states(access: Any) -> torch.Tensor:
    """A state or observation of the right kind, without asking for an episode."""
    scale = getattr(access, "observation_scale", None)
    return torch.zeros(1, dtype=torch.int64) if scale is None else torch.zeros(1, *np.shape(scale))
