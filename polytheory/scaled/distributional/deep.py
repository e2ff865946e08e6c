"""The deep form: a quantile network that is conditioned on the stock, the combination with DQN of [pires2025].

Setting: discounted or episodic, episodes only; any observations.

Update: from transitions (o, a, r, o') that are replayed with a fresh stock c, uniform on a range::

    c' = (c + r) / gamma,    a' = argmax_a K(law of c' + theta_target(o', c', a)),
    theta(o, c, a)  <-  quantile Huber regression to  r + gamma theta_target(o', c', a')

The action is chosen first, by the law of stock + return, and then gives its whole row of quantiles. Since rewards do not depend
on the stock, every transition may be replayed with every stock. No theorem covers the network: judge it by the exact law of the
policy that it deploys, not by its own estimates.

References: [pires2025] as in the reference. [dabney2018] Dabney et al., Distributional reinforcement learning with quantile
regression, AAAI 2018.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.models.objectives import CVaR, Objective, admit, objective
from polytheory.scaled.distributional.policy import OnArrays
from polytheory.scaled.distributional.representations import next_stock
from polytheory.streams import row_ids, uniforms

Encode = Callable[[Any, torch.Tensor], torch.Tensor]
"""``(stage, states) -> observations`` [n, d] in float32; the stage is a number or a tensor like the states."""


def one_hot(S: int, horizon: int | None = None) -> Encode:
    """Observations of a tabular model: the state, and with a horizon the stage, each one-hot."""

    def encode(h: Any, s: torch.Tensor) -> torch.Tensor:
        state = torch.nn.functional.one_hot(s, S).float()
        if horizon is None:
            return state
        stage = torch.as_tensor(h, device=s.device).expand(s.shape).clamp(max=horizon)
        return torch.cat([state, torch.nn.functional.one_hot(stage, horizon + 1).float()], -1)

    return encode


class QuantileNetwork(torch.nn.Module):
    """Quantiles of the return to go, ``(observations [n, d], stocks [n]) -> [n, A, N]``.

    The stock enters divided by ``scale``; returns leave multiplied by it. Weights do not depend on the global generator.
    """

    def __init__(
        self, inputs: int, n_actions: int, n_quantiles: int, *, width: int = 64, scale: float = 1.0, seed: int = 0
    ):
        super().__init__()
        sizes, g = (inputs + 1, width, width, n_actions * n_quantiles), torch.Generator().manual_seed(seed)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in pairwise(sizes))
        with torch.no_grad():
            for layer in self.layers:
                for p in (layer.weight, layer.bias):
                    p.copy_((2 * torch.rand(p.shape, generator=g) - 1) / layer.in_features**0.5)  # type: ignore[operator]
        self.shape, self.scale = (n_actions, n_quantiles), scale

    def forward(self, observations: Float[torch.Tensor, "n d"], stocks: Float[torch.Tensor, " n"]) -> torch.Tensor:
        """Quantiles."""
        x = torch.cat([observations, (stocks / self.scale).to(observations.dtype)[:, None]], -1)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.scale * self.layers[-1](x).unflatten(-1, self.shape)


@dataclass(eq=False)
class DeepStockState:
    """State of the learner.

    Fields: ``net``, ``target`` networks and ``optimiser``; the replayed ``observations`` [B, d], ``actions``, ``rewards``,
    ``after`` [B, d], ``goes_on`` [B]; ``starts`` [m, d] first observations of the last episodes; counters ``t``, ``updates``;
    ``seed``, ``replica``.
    """

    net: QuantileNetwork
    target: QuantileNetwork
    optimiser: torch.optim.Optimizer
    observations: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    after: torch.Tensor
    goes_on: torch.Tensor
    starts: torch.Tensor
    t: int
    updates: int
    seed: int
    replica: int


@dataclass(frozen=True, eq=False)
class StockQuantileAgent:
    """Learn the stock-conditioned quantiles from episodes; one learner.

    Fields:
        stock_range: stocks that the network is trained on; stocks beyond are moved to the end. For CVaR take minus the possible
            returns.
        truncation: steps of an episode at most.
        encode: observations of states; `one_hot` for tabular models.
        objective: as in `DistributionalValueIteration`. One network serves every tau of CVaR (`deploy`).
        n_quantiles, width: of the network. kappa: width of the Huber zone, in units of the return, > 0.
        lr: Adam's. gamma: discount. horizon: of the model, for the conditions on the objective.
        epsilon: share of uniform actions, from 1 down to this over ``decay`` steps.
        batch: episodes a step. updates: gradient steps a step. minibatch: transitions each. buffer: transitions kept.
        copy_every: gradient steps between two copies to the target network.
        insist: run an objective that lacks a condition.

    Raises `SettingError`, `ObjectiveError`.
    """

    stock_range: tuple[float, float]
    truncation: int
    encode: Encode
    objective: Objective | str = CVaR(0.25)  # noqa: RUF009 - objectives are frozen
    n_quantiles: int = 32
    width: int = 64
    kappa: float = 0.1
    lr: float = 1e-3
    gamma: float = 1.0
    horizon: int | None = None
    epsilon: float = 0.1
    decay: int = 50
    batch: int = 32
    updates: int = 10
    minibatch: int = 256
    buffer: int = 20_000
    copy_every: int = 100
    insist: bool = False

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})

    def __post_init__(self) -> None:
        if not self.stock_range[0] < self.stock_range[1]:
            raise SettingError(f"stock_range = {self.stock_range}; the smaller end comes first")
        for name in ("truncation", "n_quantiles", "width", "batch", "minibatch", "buffer", "copy_every", "decay"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least 1")
        if not (
            self.kappa > 0 and self.lr > 0 and 0 <= self.epsilon <= 1 and 0 < self.gamma <= 1 and self.updates >= 0
        ):
            raise SettingError("kappa and lr must be positive, epsilon in [0, 1], gamma in (0, 1], updates >= 0")
        admit(objective(self.objective), gamma=self.gamma, horizon=self.horizon, insist=self.insist)

    def init(self, access: Any, seed: int, replica: int = 0) -> DeepStockState:
        """A random network and an empty memory."""
        first = self.encode(0, torch.zeros(1, dtype=torch.int64))
        scale = max(abs(x) for x in self.stock_range)
        net = QuantileNetwork(
            first.shape[-1], access.spec.A, self.n_quantiles, width=self.width, scale=scale, seed=seed + 7919 * replica
        )
        optimiser = torch.optim.Adam(net.parameters(), lr=self.lr)
        empty = torch.zeros(0)
        return DeepStockState(
            net, copy.deepcopy(net), optimiser, first[:0], empty.long(), empty, first[:0], empty.bool(), first[:0], 0, 0, seed,
            replica,
        )  # fmt: skip

    def step(self, state: DeepStockState, access: Any) -> tuple[DeepStockState, Info]:
        """Play a batch of episodes from random initial stocks, remember them, take gradient steps."""
        rows = row_ids(state.replica, np.arange(self.batch), 0)
        low, high = self.stock_range
        u = uniforms(state.seed, "stock-agent/start", state.t, torch.from_numpy(rows), 1)[:, 0]
        share = max(self.epsilon, 1 - (1 - self.epsilon) * state.t / self.decay)
        policy = StockNetPolicy(self, state.net, low + (high - low) * u, objective(self.objective), share)
        with torch.no_grad():
            key = Key(state.seed, "stock-agent/episodes", state.t)
            traj = access.rollouts(policy, Requests(rows, self.truncation), key)
            self._remember(state, traj)
        loss = 0.0
        for _ in range(self.updates):
            loss = self._update(state)
        state.t += 1
        paid = torch.where(traj.mask, traj.rewards, 0.0).sum(-1)
        return state, {
            "return": float(paid.mean()),
            "loss": loss,
            "epsilon": share,
            "replayed": float(len(state.actions)),
        }

    def policy(self, state: DeepStockState) -> StockNetPolicy:
        """The greedy policy from the best initial stock."""
        return self.deploy(state, self.objective)

    def deploy(self, state: DeepStockState, given: Objective | str) -> StockNetPolicy:
        """The greedy policy of another objective whose utility orders laws alike, such as CVaR with another tau."""
        judge = objective(given)
        return StockNetPolicy(self, state.net, torch.tensor([self.best_start(state, judge)]).double(), judge, 0.0)

    def done(self, state: DeepStockState) -> bool:
        """A learner is never done by itself."""
        return False

    def best_start(self, state: DeepStockState, judge: Objective, nodes: int = 201) -> float:
        """The given stock, or the one of an even grid that is best by the network's own law from the first observations."""
        if judge.outer is None or not len(state.starts):
            return float(judge.stock) if judge.outer is None else float(self.stock_range[0])
        grid = torch.linspace(*self.stock_range, nodes).double()
        begin = state.starts[-1:].expand(nodes, -1)
        with torch.no_grad():
            value = self.worth(judge, state.net, begin, grid).amax(-1)
        total = judge.total(value, grid)
        return float(grid[int(total.argmax() if judge.outer == "max" else total.argmin())])

    def worth(
        self, judge: Objective, net: Callable[..., torch.Tensor], observations: torch.Tensor, stocks: torch.Tensor
    ) -> torch.Tensor:
        """K of stock + return of every action, [n, A], on the network's quantiles."""
        theta = net(observations, self.inside(stocks)).double()
        return judge.value(stocks[:, None, None] + theta, torch.full_like(theta, 1 / self.n_quantiles))

    def inside(self, stocks: torch.Tensor) -> torch.Tensor:
        """Stocks moved into the trained range."""
        return stocks.clamp(*self.stock_range)

    def _remember(self, state: DeepStockState, traj: Any) -> None:
        row, t = traj.mask.nonzero(as_tuple=True)
        last = t == traj.mask.sum(-1)[row] - 1
        following = traj.states[row, (t + 1).clamp(max=traj.states.shape[1] - 1)]
        following = torch.where(last.reshape(-1, *(1,) * (following.ndim - 1)), traj.final_states[row], following)
        new = {
            "observations": self.encode(t, traj.states[row, t]), "actions": traj.actions[row, t],
            "rewards": traj.rewards[row, t].float(), "after": self.encode(t + 1, following),
            "goes_on": ~(last & traj.finished[row]),
        }  # fmt: skip
        for name, x in new.items():
            setattr(state, name, torch.cat([getattr(state, name), x])[-self.buffer :])
        state.starts = self.encode(0, traj.states[:, 0])

    def _update(self, state: DeepStockState) -> float:
        u = uniforms(state.seed, "stock-agent/replay", state.updates, torch.arange(self.minibatch), 2)
        i = (u[:, 0] * len(state.actions)).long()
        low, high = self.stock_range
        loss = self.loss(state, i, low + (high - low) * u[:, 1])
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
        """Quantile Huber regression of the replayed transitions ``i`` with the given stocks."""
        r = state.rewards[i].double()
        with torch.no_grad():
            goal = targets(self, state.target, state.after[i], r, stocks, state.goes_on[i])
        theta = state.net(state.observations[i], self.inside(stocks))
        theta = theta[torch.arange(len(i)), state.actions[i]]
        return quantile_huber(theta, goal.to(theta.dtype), self.kappa)


def targets(
    agent: StockQuantileAgent,
    net: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    after: Float[torch.Tensor, "n d"],
    rewards: Float[torch.Tensor, " n"],
    stocks: Float[torch.Tensor, " n"],
    goes_on: torch.Tensor,
) -> Float[torch.Tensor, "n N"]:
    """``r + gamma theta(o', c', a')`` with one action for the whole row: the one whose law of ``c' + G`` is judged best."""
    moved = next_stock(stocks, rewards, agent.gamma)
    action = agent.worth(objective(agent.objective), net, after, agent.inside(moved)).argmax(-1)
    theta = net(after, agent.inside(moved)).double()[torch.arange(len(action)), action]
    return rewards[:, None] + agent.gamma * theta * goes_on[:, None]


def quantile_huber(
    theta: Float[torch.Tensor, "n N"], goal: Float[torch.Tensor, "n M"], kappa: float
) -> Float[torch.Tensor, ""]:
    """``sum_i mean_j |tau_i - 1[u_ij < 0]| Huber(u_ij) / kappa``, ``u_ij = goal_j - theta_i``, mean over rows [dabney2018]."""
    N = theta.shape[-1]
    levels = (2 * torch.arange(N, dtype=theta.dtype, device=theta.device) + 1) / (2 * N)
    u = goal[:, None, :] - theta[:, :, None]
    size = u.abs()
    huber = torch.where(size <= kappa, 0.5 * u * u, kappa * (size - 0.5 * kappa))
    return ((levels[:, None] - (u.detach() < 0).to(u.dtype)).abs() * huber / kappa).mean(-1).sum(-1).mean()


@dataclass(frozen=True, eq=False)
class StockNetPolicy:
    """Greedy for the law of stock + return, with a share of uniform actions; the memory is the true stock.

    Fields: ``agent``, ``net``; ``initial`` stocks, [n] for the rows or [1] for all; ``judge``; ``share`` of uniform actions.
    """

    agent: StockQuantileAgent
    net: QuantileNetwork
    initial: Float[torch.Tensor, " m"]
    judge: Objective
    share: float

    def start(self, n: int) -> Float[torch.Tensor, " n"]:
        """Initial stocks."""
        return self.initial.expand(n) if len(self.initial) == 1 else self.initial

    def probs(self, m: Float[torch.Tensor, " n"], h: int, s: torch.Tensor) -> Float[torch.Tensor, "n A"]:
        """Action probabilities."""
        with torch.no_grad():
            worth = self.agent.worth(self.judge, self.net, self.agent.encode(h, s), m)
        greedy = torch.nn.functional.one_hot(worth.argmax(-1), worth.shape[-1]).double()
        return (1 - self.share) * greedy + self.share / worth.shape[-1]

    def update(self, m: Any, h: int, s: Any, a: Any, r: torch.Tensor, s2: Any) -> Float[torch.Tensor, " n"]:
        """The stock moves with the reward."""
        return next_stock(m, r, self.agent.gamma)

    def on_arrays(self) -> OnArrays:
        """The same policy on NumPy arrays, for `polytheory.models.return_law`."""
        return OnArrays(self)
