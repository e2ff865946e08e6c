"""Finite Markov decision processes as plain, frozen, validated data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from polytheory._show import compact
from polytheory._typing import Array, Float
from polytheory.errors import EmptyActionSetError, ModelError, NotStochasticError, ShapeError, TerminalError
from polytheory.models._arrays import by_stage, frozen, frozen_tree
from polytheory.models._check import check_csr, check_discount, check_distributions, check_finite
from polytheory.models._successors import SuccessorTable, successor_table


@dataclass(frozen=True)
class GridLayout:
    """How states lie on a grid, for pictures: state s is at (row, column) = divmod(s, columns)."""

    rows: int
    columns: int
    arrows: tuple[str, ...]  # one label per action, e.g. ("←", "↓", "→", "↑")


@dataclass(frozen=True, eq=False)
class RewardAtoms:
    """A random reward with finitely many values, independent of the next state given (s, a).

    Fields: ``values`` [K] the atoms; ``probs`` [S, A, K] their probabilities. The mean must equal the model's ``r``.
    """

    values: Float[np.ndarray, " K"]
    probs: Float[np.ndarray, "S A K"]


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """A finite MDP, discounted or with a finite horizon.

    Setting: states 0..S-1, actions 0..A-1, ``P[s, a, s']`` transition probabilities, ``r[s, a]`` rewards, start
    distribution ``mu`` [puterman2005, ch. 2].

    Args:
        P: ``[S, A, S]``; ``[H, S, A, S]`` stage-dependent; CSR ``(S*A, S)`` with row ``s*A + a``; or a tuple of H such.
        r: ``[S, A]`` or ``[S, A, S]``; with a leading H for stage-dependent rewards; for sparse ``P`` also a CSR matrix
            ``(S*A, S)`` of transition rewards (or a tuple of H) in place of ``[S, A, S]``. Where H = S = A, a dense array of
            rank 3 could mean either and is refused: pass ``[H, S, A, S]`` (see `by_stage`).
        mu: start distribution ``[S]``.
        horizon: number of steps of an episode, or None.
        gamma: discount in [0, 1); 1 is allowed with a horizon.
        terminal: ``[S]`` marks states where an episode stops; they must be absorbing with reward 0. Default: none.
        reward_law: law of a random reward with mean ``r``; default: the reward is deterministic.
        name: for tables and error messages.
        grid: layout for pictures.

    Raises:
        ShapeError, NotStochasticError, NonFiniteError, DiscountError, EmptyActionSetError, TerminalError: with the bad
            entry named.

    Arrays are copied and made read-only; an array that is read-only already is kept without a copy.
    """

    P: Array  # or CSR, or a tuple of CSR
    r: Array  # or CSR, or a tuple of CSR
    mu: Array
    horizon: int | None = None
    gamma: float = 1.0
    terminal: Array = None
    reward_law: RewardAtoms | None = None
    name: str = "tabular"
    grid: GridLayout | None = None

    __repr__ = compact

    def __post_init__(self) -> None:
        check_discount(self.gamma, self.horizon)
        put = object.__setattr__
        put(self, "horizon", None if self.horizon is None else int(self.horizon))
        put(self, "mu", frozen(self.mu, float))
        if self.mu.ndim != 1 or self.mu.size == 0:
            raise ShapeError(f"mu must have shape [S] with S >= 1; got {list(self.mu.shape)}")
        check_distributions(self.mu, "mu")
        put(self, "r", frozen_tree(self.r))
        put(self, "P", frozen_tree(self.P))
        self._check_transitions()
        self._check_rewards()
        terminal = np.zeros(self.S, dtype=bool) if self.terminal is None else self.terminal
        put(self, "terminal", frozen(terminal, bool))
        self._check_terminal()
        self._check_law()
        if self.grid is not None and self.grid.rows * self.grid.columns > self.S:
            raise ShapeError(f"grid of {self.grid.rows} x {self.grid.columns} has more cells than S = {self.S} states")

    # ---- sizes -----------------------------------------------------------------------------------------------------

    @property
    def S(self) -> int:
        """Number of states."""
        return int(self.mu.shape[0])

    @cached_property
    def A(self) -> int:
        """Number of actions."""
        first = self.P[0] if isinstance(self.P, tuple) else self.P
        if sp.issparse(first):
            return int(first.shape[0]) // self.S
        return int(first.shape[-2])

    @property
    def is_sparse(self) -> bool:
        """True when transitions are stored as CSR."""
        return isinstance(self.P, tuple) or sp.issparse(self.P)

    @property
    def is_staged(self) -> bool:
        """True when transitions or rewards depend on the stage h."""
        return self._P_staged or self._r_staged

    @property
    def _P_staged(self) -> bool:
        return isinstance(self.P, tuple) or (not sp.issparse(self.P) and self.P.ndim == 4)

    @property
    def _r_staged(self) -> bool:
        if isinstance(self.r, tuple):
            return True
        if sp.issparse(self.r):
            return False
        # [H, S, A] and [S, A, S] share a rank: a staged reward must match the horizon and not the [S, A, S] shape,
        # which a dense r beside a sparse P never has
        rank = self.r.ndim
        return rank == 4 or (rank == 3 and (self.is_sparse or self.r.shape != (self.S, self.A, self.S)))

    # ---- views by stage --------------------------------------------------------------------------------------------

    def P_at(self, h: int = 0) -> Array:
        """Transitions of stage ``h``: ``[S, A, S]``, or CSR ``(S*A, S)``."""
        return self.P[h] if self._P_staged else self.P

    def r_at(self, h: int = 0) -> Float[np.ndarray, "S A"]:
        """Expected reward of stage ``h`` for each state and action."""
        return self._mean_rewards[h if self.is_staged else 0]

    def backup(self, v: Float[np.ndarray, " S"], h: int = 0) -> Float[np.ndarray, "S A"]:
        """State-action values ``r + gamma * P v`` of stage ``h``."""
        P = self.P_at(h)
        Pv = (P @ v).reshape(self.S, self.A)
        return self.r_at(h) + self.gamma * Pv

    @cached_property
    def _mean_rewards(self) -> tuple[Float[np.ndarray, "S A"], ...]:
        stages = range(self.horizon or 1) if self.is_staged else (0,)
        return tuple(self._mean_reward(h) for h in stages)

    def _mean_reward(self, h: int) -> Float[np.ndarray, "S A"]:
        r = self.r[h] if self._r_staged else self.r
        if sp.issparse(r):
            mean = np.asarray(r.multiply(self.P_at(h)).sum(axis=1)).reshape(self.S, self.A)
        elif r.ndim == 2:
            return r
        else:
            mean = np.einsum("ijk,ijk->ij", self.P_at(h), r)
        mean.flags.writeable = False
        return mean

    @cached_property
    def reward_range(self) -> tuple[float, float]:
        """Smallest and largest reward that a transition can give."""
        if self.reward_law is not None:
            return float(self.reward_law.values.min()), float(self.reward_law.values.max())
        rewards = self.r if isinstance(self.r, tuple) else (self.r,)
        values = [x.data if sp.issparse(x) else x for x in rewards]
        low = min(float(np.min(x, initial=np.inf)) for x in values)
        high = max(float(np.max(x, initial=-np.inf)) for x in values)
        if sp.issparse(rewards[0]):  # entries that are not stored are zero rewards
            low, high = min(low, 0.0), max(high, 0.0)
        return low, high

    @cached_property
    def successors(self) -> SuccessorTable:
        """The padded successor table of the model, made on first use."""
        return successor_table(self)

    # ---- validation ------------------------------------------------------------------------------------------------

    def _check_transitions(self) -> None:
        S = self.S
        stages = self.P if isinstance(self.P, tuple) else (self.P,)
        if not stages:
            raise ShapeError("P is an empty tuple; pass one CSR matrix per stage")
        if self._P_staged and (self.horizon is None or len(self.P) != self.horizon):
            raise ShapeError(f"P has {len(self.P)} stages; horizon is {self.horizon}; pass horizon={len(self.P)}")
        for h, P in enumerate(stages):
            name = f"P[{h}]" if isinstance(self.P, tuple) else "P"
            if sp.issparse(P):
                if P.shape[1] != S or P.shape[0] % S:
                    raise ShapeError(f"{name} must be CSR of shape (S*A, S) with S = {S} from mu; got {P.shape}")
                if P.shape != stages[0].shape:
                    raise ShapeError(f"{name} has shape {P.shape} but P[0] has {stages[0].shape}; A may not change")
                if P.shape[0] == 0:
                    raise EmptyActionSetError(f"{name} has no rows: every state needs at least one action")
                check_csr(P, P.shape[0] // S, name)
            else:
                if P.ndim not in (3, 4) or P.shape[-1] != S or P.shape[-3] != S:
                    raise ShapeError(
                        f"P must be [S, A, S] or [H, S, A, S] with S = {S} from mu; got {list(P.shape)}. "
                        "Arrays ordered [A, S, S] go through polytheory.models.from_mdptoolbox"
                    )
                if P.shape[-2] == 0:
                    raise EmptyActionSetError("P has no actions (A = 0): every state needs at least one action")
                check_distributions(P, "P")

    def _check_rewards(self) -> None:
        S, A, H = self.S, self.A, self.horizon
        stages = self.r if isinstance(self.r, tuple) else (self.r,)
        if isinstance(self.r, tuple) and len(self.r) != H:
            raise ShapeError(f"r has {len(self.r)} stages; horizon is {H}")
        for r in stages:
            if sp.issparse(r):
                if r.shape != (S * A, S) or not self.is_sparse:
                    raise ShapeError(f"sparse r must be CSR of shape ({S * A}, {S}) beside a sparse P; got {r.shape}")
                check_finite(r.data, "r.data")
                continue
            dense = {(S, A), (H, S, A)} | (set() if self.is_sparse else {(S, A, S), (H, S, A, S)})
            if r.shape not in dense:
                raise ShapeError(f"r must have shape [S, A] = {[S, A]}, [S, A, S], or a leading H; got {list(r.shape)}")
            if r.ndim == 3 and H == S == A > 1 and not self.is_sparse:
                raise ShapeError(
                    f"r of shape {list(r.shape)} may mean [H, S, A] or [S, A, S], which pay differently; pass [H, S, A, S]: "
                    "r[..., None].repeat(S, axis=-1) for the first, np.stack([r] * H) for the second"
                )
            check_finite(r, "r")

    def _check_terminal(self) -> None:
        t = self.terminal
        if t.shape != (self.S,):
            raise ShapeError(f"terminal must have shape [{self.S}]; got {list(t.shape)}")
        states = np.flatnonzero(t)
        if not states.size:
            return
        for h in range(self.horizon or 1) if self.is_staged else (0,):
            P = self.P_at(h)
            for s in states:
                rows = P[s * self.A : (s + 1) * self.A] if sp.issparse(P) else P[s]
                stays = np.asarray(rows[:, [s]].todense() if sp.issparse(rows) else rows[:, s]).ravel()
                if (np.abs(stays - 1) > 1e-8).any() or (self.r_at(h)[s] != 0).any():
                    raise TerminalError(
                        f"state {s} is marked terminal but action {int(np.argmax((stays != 1) | (self.r_at(h)[s] != 0)))} "
                        "leaves it or pays a reward; make it absorbing with reward 0"
                    )

    def _check_law(self) -> None:
        law = self.reward_law
        if law is None:
            return
        values, probs = frozen(law.values, float), frozen(law.probs, float)
        if self.is_staged:
            raise ModelError("reward_law with stage-dependent P or r is not supported; put the stage into the state")
        if probs.shape != (self.S, self.A, values.size):
            raise ShapeError(f"reward_law.probs must be [{self.S}, {self.A}, {values.size}]; got {list(probs.shape)}")
        check_distributions(probs, "reward_law.probs")
        off = np.abs(probs @ values - self.r_at()) > 1e-8
        if off.any():
            s, a = np.argwhere(off)[0]
            raise NotStochasticError(
                f"reward_law has mean {float(probs[s, a] @ values):.9g} at [{s}, {a}] but r is {self.r_at()[s, a]:.9g}"
            )
        object.__setattr__(self, "reward_law", RewardAtoms(values, probs))


__all__ = ["GridLayout", "RewardAtoms", "SuccessorTable", "TabularMDP", "by_stage"]
