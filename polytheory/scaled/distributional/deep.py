"""The deep form: a quantile network that is conditioned on the stock, the combination with DQN of [pires2025].

Setting: discounted or episodic, episodes only; states that can be counted, or observations that are arrays of numbers.

Update: from transitions (h, o, a, r, o') that are replayed with a fresh stock c, uniform on a range::

    c' = (c + r) / gamma,    a' = argmax_a K(law of c' + theta_target(o', c', a)),
    theta(o, c, a)  <-  quantile regression to  r + gamma theta_target(o', c', a')

The action is chosen first, by the law of stock + return, and then gives its whole row of quantiles. Since rewards do not depend
on the stock, every transition may be replayed with every stock. No theorem covers the network: judge it by the exact law of the
policy that it deploys, or by held-out episodes, not by its own estimates.

References: [pires2025] as in the reference. [dabney2018] Dabney et al., Distributional reinforcement learning with quantile
regression, AAAI 2018.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import ObjectiveError, SettingError
from polytheory.models.objectives import CVaR, Objective, admit, objective
from polytheory.scaled.distributional.deep_network import Encode, QuantileNetwork, encoder_of, quantile_huber
from polytheory.scaled.distributional.deep_policy import (
    PLAYED,
    Net,
    StockNetPolicy,
    best_played,
    best_starts,
    worth,
)
from polytheory.scaled.distributional.representations import next_stock
from polytheory.streams import row_ids, subseed, uniforms


@dataclass(eq=False)
class DeepStockState:
    """State of the learner.

    Fields: ``net``, ``target`` networks and ``optimiser``; the replayed ``stages`` [B], ``states`` [B, ...], ``actions``,
    ``rewards``, ``after`` [B, ...], ``goes_on`` [B]; ``starts`` [m, ...] first states of the last episodes; counters ``t``,
    ``updates``; ``gamma``, ``seed``, ``replica``.
    """

    net: QuantileNetwork
    target: QuantileNetwork
    optimiser: torch.optim.Optimizer
    stages: torch.Tensor
    states: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    after: torch.Tensor
    goes_on: torch.Tensor
    starts: torch.Tensor
    t: int
    updates: int
    gamma: float
    seed: int
    replica: int


@dataclass(frozen=True, eq=False)
class StockQuantileAgent:
    """Learn the stock-conditioned quantiles from episodes; one learner.

    Fields:
        objective: as in `DistributionalValueIteration`. One network serves every tau of CVaR (`deploy`).
        stock_range: stocks that the network is trained on; stocks beyond are seen as the end. For CVaR take minus the possible
            returns, which is the default where rewards are bounded.
        truncation: steps of an episode at most; default the horizon.
        encode: observations; default as `encoder_of`.
        n_quantiles, width, bins: of the `QuantileNetwork`; give ``bins`` a node for each whole number where rewards are whole.
        kappa: width of the Huber zone, in units of the return; 0 is the quantile loss itself.
        lr: Adam's at first; after n gradient steps it is ``lr / (1 + n / half)``, as thin tails need a still network.
        epsilon: share of uniform actions, from 1 down to this over ``decay`` steps.
        batch: episodes a step. updates: gradient steps a step. minibatch: transitions each. buffer: transitions kept.
        copy_every: gradient steps between two copies to the target network.
        insist: run an objective that lacks a condition.

    Raises `SettingError`, `ObjectiveError`.
    """

    objective: Objective | str = CVaR(0.25)  # noqa: RUF009 - objectives are frozen
    stock_range: tuple[float, float] | list | None = None
    truncation: int | None = None
    encode: Encode | None = None
    n_quantiles: int = 32
    width: int = 64
    bins: int = 41
    kappa: float = 0.1
    lr: float = 3e-3
    half: int = 3000
    epsilon: float = 0.1
    decay: int = 50
    batch: int = 32
    updates: int = 40
    minibatch: int = 256
    buffer: int = 20_000
    copy_every: int = 100
    insist: bool = False

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    single: ClassVar[bool] = True  # one learner a run
    observes: ClassVar[bool] = True  # needs no states that can be counted

    def __post_init__(self) -> None:
        if self.stock_range is not None:
            check_range(self.stock_range)
        for name in (
            "n_quantiles",
            "width",
            "batch",
            "minibatch",
            "buffer",
            "copy_every",
            "decay",
            "half",
            "truncation",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least 1")
        if not (self.kappa >= 0 and self.lr > 0 and 0 <= self.epsilon <= 1 and self.updates >= 0):
            raise SettingError("lr must be positive, kappa and updates >= 0, epsilon in [0, 1]")
        if self.bins < 0 or self.bins == 1:
            raise SettingError(f"bins = {self.bins}; take at least 2, or 0 for the stock as one number")
        judge = objective(self.objective)
        if np.ndim(judge.stock):
            raise ObjectiveError(f"objective {judge} judges vector rewards; the agent learns the law of one number")
        admit(judge, gamma=1.0, horizon=1, insist=self.insist)  # what no access can mend

    def init(self, access: Any, seed: int, replica: int = 0) -> DeepStockState:
        """A random network and an empty memory.

        Raises `ObjectiveError` for an objective that lacks a condition here, `SettingError` where the range of stocks or the
        length of an episode is neither given nor known.
        """
        spec = access.spec
        admit(objective(self.objective), gamma=spec.gamma, horizon=spec.horizon, insist=self.insist)
        steps_of(self, access)
        shape = () if spec.S is not None else np.shape(access.observation_scale)
        encode = encoder_of(access) if self.encode is None else self.encode
        nothing = torch.zeros(1, *shape, dtype=torch.int64 if spec.S is not None else torch.float32)
        net = QuantileNetwork(
            encode, encode(0, nothing).shape[-1], span_of(self, access), spec.A, self.n_quantiles, bins=self.bins,
            width=self.width, seed=subseed(seed, "stock-agent/weights", replica),
        )  # fmt: skip
        optimiser = torch.optim.Adam(net.parameters(), lr=self.lr)
        states, empty = nothing[:0], torch.zeros(0)
        return DeepStockState(
            net, copy.deepcopy(net), optimiser, empty.long(), states, empty.long(), empty, states, empty.bool(), states, 0, 0,
            float(spec.gamma), seed, replica,
        )  # fmt: skip

    def step(self, state: DeepStockState, access: Any) -> tuple[DeepStockState, Info]:
        """Play a batch of episodes from random initial stocks, remember them, take gradient steps."""
        rows = row_ids(state.replica, np.arange(self.batch), 0)
        low, high = state.net.span
        u = uniforms(state.seed, "stock-agent/start", state.t, torch.from_numpy(rows), 1)[:, 0]
        share = max(self.epsilon, 1 - (1 - self.epsilon) * state.t / self.decay)
        key, size = Key(state.seed, "stock-agent/episodes", state.t), getattr(access, "n_envs", self.batch)
        paid, starts = [], []
        for i in range(0, self.batch, size):  # a policy's rows are those that are played together
            stocks = low + (high - low) * u[i : i + size]
            policy = StockNetPolicy(state.net, state.gamma, stocks, objective(self.objective), share)
            with torch.no_grad():
                traj = access.rollouts(policy, Requests(rows[i : i + size], steps_of(self, access)), key)
            self._remember(state, traj)
            paid.append(torch.where(traj.mask, traj.rewards, 0.0).sum(-1))
            starts.append(traj.states[:, 0])
        state.starts = torch.cat(starts)
        loss = 0.0
        for _ in range(self.updates):
            loss = self._update(state)
        state.t += 1
        played = {"return": float(torch.cat(paid).mean()), "replayed": float(len(state.actions))}
        return state, {**played, "loss": loss, "epsilon": share}

    def policy(self, state: DeepStockState) -> StockNetPolicy:
        """The greedy policy from the best initial stock."""
        return self.deploy(state, self.objective)

    def deploy(
        self, state: DeepStockState, given: Objective | str, access: Any = None, *, episodes: int = PLAYED
    ) -> StockNetPolicy:
        """The greedy policy of another objective whose utility orders laws alike, such as CVaR with another tau.

        Its initial stock is the best by the network's own laws; with an ``access``, the one with the best returns in so many
        episodes that are played from each of those that the network holds for the best.
        """
        judge = objective(given)
        stocks = best_starts(judge, state.net, state.starts)
        policies = [StockNetPolicy(state.net, state.gamma, c, judge) for c in stocks.split(1)]
        if access is None or len(policies) == 1:
            return policies[0]
        return best_played(policies, access, steps_of(self, access), state.seed, episodes)

    def done(self, state: DeepStockState) -> bool:
        """A learner is never done by itself."""
        return False

    def _remember(self, state: DeepStockState, traj: Any) -> None:
        row, t = traj.mask.nonzero(as_tuple=True)
        last = t == traj.mask.sum(-1)[row] - 1
        following = traj.states[row, (t + 1).clamp(max=traj.states.shape[1] - 1)]
        following = torch.where(last.reshape(-1, *(1,) * (following.ndim - 1)), traj.final_states[row], following)
        new = {
            "stages": t, "states": traj.states[row, t], "actions": traj.actions[row, t],
            "rewards": traj.rewards[row, t].float(), "after": following, "goes_on": ~(last & traj.finished[row]),
        }  # fmt: skip
        for name, x in new.items():
            setattr(state, name, torch.cat([getattr(state, name).to(x.dtype), x])[-self.buffer :])

    def _update(self, state: DeepStockState) -> float:
        u = uniforms(state.seed, "stock-agent/replay", state.updates, torch.arange(self.minibatch), 2)
        i = (u[:, 0] * len(state.actions)).long()
        low, high = state.net.span
        loss = self.loss(state, i, low + (high - low) * u[:, 1])
        for group in state.optimiser.param_groups:
            group["lr"] = self.lr / (1 + state.updates / self.half)
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        state.updates += 1
        if state.updates % self.copy_every == 0:
            state.target.load_state_dict(state.net.state_dict())
        return float(loss.detach())

    def loss(
        self, state: DeepStockState, i: Int[torch.Tensor, " n"], stocks: Float[torch.Tensor, " n"]
    ) -> torch.Tensor:
        """Quantile regression of the replayed transitions ``i`` with the given stocks."""
        with torch.no_grad():
            goal = targets(
                objective(self.objective), state.target, state.stages[i] + 1, state.after[i], state.rewards[i].double(), stocks,
                state.goes_on[i], state.gamma,
            )  # fmt: skip
        theta = state.net(state.stages[i], state.states[i], stocks)[torch.arange(len(i)), state.actions[i]]
        return quantile_huber(theta, goal.to(theta.dtype), self.kappa)


def targets(
    judge: Objective,
    net: Net,
    h: Int[torch.Tensor, " n"],
    after: torch.Tensor,
    rewards: Float[torch.Tensor, " n"],
    stocks: Float[torch.Tensor, " n"],
    goes_on: torch.Tensor,
    gamma: float,
) -> Float[torch.Tensor, "n N"]:
    """``r + gamma theta(o', c', a')`` with one action for the whole row: the one whose law of ``c' + G`` is judged best."""
    value, theta = worth(judge, net, h, after, next_stock(stocks, rewards, gamma))
    chosen = theta[torch.arange(len(value)), value.argmax(-1)]
    return rewards[:, None] + gamma * chosen * goes_on[:, None]


def check_range(span: Any) -> None:
    """Raise `SettingError` unless these are two finite numbers, the smaller one first."""
    if not (np.shape(span) == (2,) and np.isfinite(np.asarray(span, dtype=float)).all() and span[0] < span[1]):
        raise SettingError(f"stock_range = {span}; give two finite numbers, the smaller one first")


def span_of(agent: StockQuantileAgent, access: Any) -> tuple[float, float]:
    """The given range of stocks, or minus the returns that bounded rewards allow.

    Raises `SettingError` where rewards are not bounded.
    """
    if agent.stock_range is not None:
        return float(agent.stock_range[0]), float(agent.stock_range[1])
    spec = access.spec
    low, high = (float(x) for x in spec.reward_range)
    if not np.isfinite([low, high]).all():
        raise SettingError(
            f"{spec.name} does not bound its rewards; give stock_range=[LOW,HIGH], minus the possible returns"
        )
    H = spec.horizon
    whole = float(H) if spec.gamma == 1 else (1 - spec.gamma ** (np.inf if H is None else H)) / (1 - spec.gamma)
    ends = -max(high * whole, 0.0), -min(low * whole, 0.0)  # an episode may also end early
    return ends if ends[0] < ends[1] else (ends[0], ends[0] + 1.0)


def steps_of(agent: StockQuantileAgent, access: Any) -> int:
    """Steps of an episode at most: as given, else the horizon.

    Raises `SettingError` where neither is there.
    """
    steps = agent.truncation or access.spec.horizon or getattr(access, "time_limit", None)
    if steps is None:
        raise SettingError(f"{access.spec.name} has no horizon; give truncation=..., the steps of an episode at most")
    return int(steps)
