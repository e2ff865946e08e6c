"""What a stock-conditioned network does: the greedy policy for a law of stock + return, and where it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float
from polytheory.access import Key, Requests
from polytheory.models.objectives import Objective
from polytheory.models.return_law import return_law
from polytheory.models.tabular import TabularMDP
from polytheory.scaled.distributional.policy import OnArrays
from polytheory.scaled.distributional.representations import next_stock
from polytheory.streams import row_ids
from polytheory.trajectories import discounts

LEAST, FIRST = 33, 64  # nodes of initial stocks at least; first states that they are judged from
CANDIDATES, PLAYED = 16, 400  # initial stocks that are played, and episodes of each
Net = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]


def worth(
    judge: Objective, net: Net, h: Any, s: torch.Tensor, stocks: Float[torch.Tensor, " n"]
) -> tuple[Float[torch.Tensor, "n A"], Float[torch.Tensor, "n A N"]]:
    """K of stock + return of every action on the network's quantiles, and these quantiles."""
    theta = net(h, s, stocks).double()
    return judge.value(stocks[:, None, None] + theta, torch.full_like(theta, 1 / theta.shape[-1])), theta


@dataclass(frozen=True, eq=False)
class StockNetPolicy:
    """Greedy for the law of stock + return, with a share of uniform actions; the memory is the true stock.

    Fields: ``net``; ``gamma``; ``initial`` stocks, one for all rows or one a row (where there are more rows, the first again);
    ``judge``; ``share`` of uniform actions.
    """

    net: Net
    gamma: float
    initial: Float[torch.Tensor, " m"]
    judge: Objective
    share: float = 0.0

    def start(self, n: int) -> Float[torch.Tensor, " n"]:
        """Initial stocks."""
        return torch.cat([self.initial, self.initial[:1].expand(max(n - len(self.initial), 0))])

    def probs(self, m: Float[torch.Tensor, " n"], h: int, s: torch.Tensor) -> Float[torch.Tensor, "n A"]:
        """Action probabilities."""
        with torch.no_grad():
            value, _ = worth(self.judge, self.net, h, s, m)
        greedy = torch.nn.functional.one_hot(value.argmax(-1), value.shape[-1]).double()
        return (1 - self.share) * greedy + self.share / value.shape[-1]

    def update(self, m: Any, h: int, s: Any, a: Any, r: torch.Tensor, s2: Any) -> Float[torch.Tensor, " n"]:
        """The stock moves with the reward."""
        return next_stock(m, r, self.gamma)

    def on_arrays(self) -> OnArrays:
        """The same policy on NumPy arrays, for `polytheory.models.return_law`."""
        return OnArrays(self)

    def mean_returns(self, model: TabularMDP) -> list[float]:
        """Expected return from the start distribution, exactly; one number."""
        return [float(return_law(model, self.on_arrays()).mean)]


def best_starts(judge: Objective, net: Any, starts: torch.Tensor) -> Float[torch.Tensor, " k"]:
    """The given initial stock, or nodes of an even grid on the trained range of a `QuantileNetwork`, the best first, by its own
    laws from first states [m, ...]."""
    if judge.outer is None or not len(starts):
        return torch.tensor([float(judge.stock) if judge.outer is None else net.span[0]]).double()
    nodes = max(net.bins, LEAST)
    low, high = net.span
    grid, some = torch.linspace(low, high, nodes, dtype=torch.float64), starts[:FIRST]
    with torch.no_grad():
        value, _ = worth(judge, net, 0, some.repeat_interleave(nodes, 0), grid.repeat(len(some)))
    total = judge.total(value.amax(-1).view(len(some), nodes).mean(0), grid)
    return grid[total.argsort(descending=judge.outer == "max", stable=True)[:CANDIDATES]]


def best_played(policies: list[StockNetPolicy], access: Any, steps: int, seed: int, episodes: int) -> StockNetPolicy:
    """The policy with the best objective of the returns in episodes that are played for the purpose, the same for all.

    The network's value of an initial stock has an error that ``1 / tau`` multiplies; returns do not.
    """
    found = []
    rows = row_ids(0, np.arange(episodes))
    for policy in policies:
        traj = access.rollouts(policy, Requests(rows, steps), Key(seed, "stock-agent/choose", 0))
        rewards = torch.where(traj.mask, traj.rewards, 0.0).double().numpy()
        atoms, counts = np.unique(rewards @ discounts(policy.gamma, rewards.shape[1]), return_counts=True)
        found.append(float(policy.judge.of_return(atoms, counts / episodes)))
    return policies[int(np.argmax(found))]
