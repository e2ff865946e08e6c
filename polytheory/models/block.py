"""Block MDPs: rich observations, each emitted by one latent state only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from polytheory._typing import Array, Float, Int
from polytheory.errors import ModelError, ShapeError
from polytheory.models._arrays import by_stage, frozen
from polytheory.models._check import check_distributions
from polytheory.models.tabular import TabularMDP


@dataclass(frozen=True, eq=False)
class BlockMDP:
    """A latent MDP seen through emissions with disjoint supports [du2019, Assumption 1].

    Args:
        latent: the MDP on latent states, with rewards by state and action (or staged) that are not random.
        emission: ``[S, X]`` probability of each observation in each latent state.

    Raises:
        ShapeError, NotStochasticError; ModelError when an observation can come from two latent states or from none, or when
            the latent rewards depend on the next state or on chance.
    """

    latent: TabularMDP
    emission: Array

    def __post_init__(self) -> None:
        emission, m = frozen(self.emission, float), self.latent
        if m.reward_law is not None or any(sp.issparse(r) for r in _stages(m.r)) or m.r.ndim - m._r_staged == 3:
            raise ModelError(
                "the latent model pays by transition or by chance, which observations would hide; pass rewards [S, A]"
            )
        if emission.ndim != 2 or emission.shape[0] != self.latent.S:
            raise ShapeError(f"emission must be [S, X] with S = {self.latent.S}; got {list(emission.shape)}")
        check_distributions(emission, "emission")
        shared = np.flatnonzero((emission > 0).sum(axis=0) != 1)
        if shared.size:
            x = int(shared[0])
            raise ModelError(
                f"observation {x} is emitted by latent states {np.flatnonzero(emission[:, x]).tolist()}; every "
                "observation must belong to exactly one latent state"
            )
        object.__setattr__(self, "emission", emission)

    @property
    def X(self) -> int:
        """Number of observations."""
        return int(self.emission.shape[1])

    def decode(self, x: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Latent states of observations."""
        return np.argmax(self.emission > 0, axis=0)[np.asarray(x)]

    def to_tabular(self) -> TabularMDP:
        """The MDP on observations: move in the latent state, then emit. It is Markov because decoding is exact."""
        m, latent = self.latent, self.decode(np.arange(self.X))
        stages = range(m.horizon or 1) if m.is_staged else (0,)
        P = np.stack([_dense(m, h)[latent] @ self.emission for h in stages])
        r = np.stack([m.r_at(h)[latent] for h in stages])
        if not m.is_staged:
            P, r = P[0], r[0]
        terminal = m.terminal[latent]
        for x in np.flatnonzero(terminal):  # observations of a terminal state stay as they are
            P[..., x, :, :] = np.eye(self.X)[x]
        return TabularMDP(
            P, by_stage(r, m.horizon), m.mu @ self.emission, m.horizon, m.gamma, terminal, name=f"block({m.name})"
        )


def _stages(x):
    return x if isinstance(x, tuple) else (x,)


def _dense(m: TabularMDP, h: int) -> Float[np.ndarray, "S A S"]:
    P = m.P_at(h)
    return np.asarray(P.toarray() if m.is_sparse else P).reshape(m.S, m.A, m.S)
