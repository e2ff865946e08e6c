"""What all learners of this folder share, for n replicas in lock-step: settings, state, and the loop.

Random numbers, fields and updates are the reference's; every array has a leading replica axis. The tables of transitions are
updated in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests, Spec
from polytheory.algorithm import Info
from polytheory.exploration.episodic import EpisodicSettings, check_spec, value_caps
from polytheory.scaled.exploration.actors import StagedPolicy
from polytheory.scaled.exploration.critics import Seen, add_episodes, information, nothing_seen, switch_due
from polytheory.streams import row_ids

PURPOSE = "exploration/episode"  # one stream for all methods here: they differ by what they do, not by luck
Many = Float[torch.Tensor, "n H S A"]


@dataclass(eq=False)
class EpisodicState:
    """The reference's state with a leading replica axis on every array: ``n`` [n, H, S, A], ``N`` [n, H, S, A, S], ``R``,
    ``f`` and ``log_weights`` [n, H, S, A], ``seen_information`` [n, H], ``since_reset``, ``switches`` and ``replica`` int64
    [n]; ``t`` and ``seed`` are shared.
    """

    n: Int[torch.Tensor, "n H S A"]
    N: Int[torch.Tensor, "n H S A S"]
    R: Many
    f: Many
    log_weights: Many
    seen_information: Float[torch.Tensor, "n H"]
    since_reset: Int[torch.Tensor, " n"]
    switches: Int[torch.Tensor, " n"]
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]

    @property
    def seen(self) -> Seen:
        """The data as sums."""
        return Seen(self.n, self.N, self.R)


class EpisodicLearner(EpisodicSettings, ABC):
    """The loop; subclasses say how the critics are made and what is played. Fields as in `EpisodicSettings`."""

    def init(self, access: Any, seed: int, replica: int = 0) -> EpisodicState:
        """The critic of the offline data (or of none), and the actors' first scores; replicas count from ``replica``."""
        H, S, A = check_spec(access.spec, self.phi)
        n, device = access.replicas, access.device
        seen = nothing_seen(n, H, S, A, device)
        if self.offline is not None:
            once = add_episodes(nothing_seen(1, H, S, A, device), self.offline)
            seen = Seen(*(x.expand(n, *x.shape[1:]).clone() for x in once))
        zero, count = torch.zeros_like(seen.R), torch.zeros(n, dtype=torch.int64, device=device)
        ids = replica + torch.arange(n, device=device)
        start = EpisodicState(*seen, zero, zero, self.gauge(seen), count, count, 0, seed, ids)
        start.f = self.critic(seen, zero, access.spec)
        return start

    def step(self, state: EpisodicState, access: Any) -> tuple[EpisodicState, Info]:
        """Play an episode of every replica, record it, refit the critics where that is due, update the actors."""
        n = access.replicas
        requests = Requests(row_ids(state.replica.numpy(force=True), 0), access.spec.horizon)
        traj = access.rollouts(self.policy(state), requests, Key(state.seed, PURPOSE, state.t))
        seen = add_episodes(state.seen, traj)
        now = self.gauge(seen)
        due = self.due(now, state.seen_information)
        f = state.f
        which = due.nonzero()[:, 0]
        if len(which) == n:
            f = self.critic(seen, state.log_weights, access.spec)
        elif len(which):
            f = f.index_copy(0, which, self.critic(seen.of(which), state.log_weights[which], access.spec))
        since = state.since_reset * ~(due & self.resets) + 1
        new = EpisodicState(
            *seen, f, state.log_weights, torch.where(due[:, None], now, state.seen_information), since,
            state.switches + due, state.t + 1, state.seed, state.replica,
        )  # fmt: skip
        new.log_weights = self.act(new, access.spec, due)
        expected = f[torch.arange(n, device=f.device), 0, traj.states[:, 0]].amax(-1)
        columns = {
            "return": traj.rewards.sum(-1), "switched": due, "switches": new.switches, "since_reset": since,
            "optimistic_value": expected,
        }  # fmt: skip
        return new, {name: x.numpy(force=True).astype(float) for name, x in columns.items()}

    def policy(self, state: EpisodicState) -> StagedPolicy:
        """The policies that are played next."""
        return StagedPolicy(state.log_weights)

    # ---- what subclasses say ---------------------------------------------------------------------------------------

    @abstractmethod
    def critic(self, seen: Seen, log_weights: Many, spec: Spec) -> Many:
        """The critics of the given data, one per replica in it."""

    def gauge(self, seen: Seen) -> Float[torch.Tensor, "n H"]:
        """What the switch test looks at."""
        return information(seen.n, self.features(seen.n.device), self.lam)

    def due(self, now: Any, before: Any) -> Any:
        """Where the critic is refitted: [n]."""
        return switch_due(now, before)

    def act(self, state: EpisodicState, spec: Spec, due: Any) -> Many:
        """The actors' scores after the episode; greedy learners keep zeros."""
        return state.log_weights

    # ---- as tensors -------------------------------------------------------------------------------------------------

    def features(self, device: torch.device) -> Float[torch.Tensor, "S A d"] | None:
        """``phi`` as a tensor."""
        return None if self.phi is None else torch.tensor(np.array(self.phi, dtype=float), device=device)

    def facts(self, spec: Spec, device: torch.device) -> tuple[Any, Any, Any, Any]:
        """Features, rewards [H, S, A] where public, radii [H] and caps [H] as tensors."""

        def put(x: Any) -> torch.Tensor:
            return torch.tensor(np.array(x, dtype=float), device=device)

        r = None if spec.r is None else put(np.broadcast_to(spec.r, check_spec(spec, None)))
        return self.features(device), r, put(self.radii(spec)), put(value_caps(spec, self.value_bound))
