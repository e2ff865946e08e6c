"""Searches for the worst parameters in the unit cube: covariance matrix adaptation, or a grid.

An adversary asks for values at a population of points and is told them, generation after generation; its state is plain
data. References: [hansen2016] N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError


@dataclass(frozen=True, eq=False)
class SearchState:
    """State of a search for the smallest value.

    Fields: ``mean`` [k], ``sigma``, ``C`` [k, k] of the Gaussian that candidates are drawn from; ``path_sigma``, ``path_c``
    [k] its evolution paths; ``generation``; ``x`` [k], ``value`` the smallest so far.
    """

    mean: Float[np.ndarray, " k"]
    sigma: float
    C: Float[np.ndarray, "k k"]
    path_sigma: Float[np.ndarray, " k"]
    path_c: Float[np.ndarray, " k"]
    generation: int
    x: Float[np.ndarray, " k"]
    value: float


def fresh_search(k: int, sigma: float = 0.5) -> SearchState:
    """Nothing asked yet; the Gaussian sits in the middle of the cube (paper: mean 0.5, sigma 0.5)."""
    zero = np.zeros(k)
    return SearchState(np.full(k, 0.5), sigma, np.eye(k), zero, zero, 0, np.full(k, 0.5), np.inf)


@dataclass(frozen=True)
class CmaEs:
    """CMA-ES with the tutorial's constants and positive weights [hansen2016].

    Candidates outside of the cube are moved to its surface for the evaluation; ties are broken by how far out they were.

    Fields: ``generations`` >= 1 (paper: 6); ``population`` >= 4 (paper: 100).
    """

    generations: int = 6
    population: int = 16

    def __post_init__(self) -> None:
        if self.generations < 1 or self.population < 4:
            raise SettingError(
                f"generations = {self.generations}, population = {self.population}; at least 1 and 4 are needed"
            )

    def init(self, k: int) -> SearchState:
        """A fresh search in k dimensions."""
        return fresh_search(k)

    def ask(self, state: SearchState, u: Float[np.ndarray, "m two_k"]) -> Float[np.ndarray, "m k"]:
        """Candidates from uniforms, which may lie outside of the cube."""
        k = len(state.mean)
        z = np.sqrt(-2 * np.log1p(-u[:, :k])) * np.cos(2 * np.pi * u[:, k:])
        scale, axes = np.linalg.eigh(state.C)
        return state.mean + state.sigma * (z * np.sqrt(scale)) @ axes.T

    def tell(self, state: SearchState, x: Float[np.ndarray, "m k"], f: Float[np.ndarray, " m"]) -> SearchState:
        """Move the Gaussian towards the candidates with small values."""
        outside = np.abs(x - inside(x)).sum(-1)
        order = np.lexsort((outside, f))
        return best_of(adapted(state, x[order]), x[order[0]], float(f[order[0]]))

    def done(self, state: SearchState) -> bool:
        """True after ``generations``."""
        return state.generation >= self.generations

    def draws(self, k: int) -> tuple[int, int]:
        """Rows and columns of the uniforms that `ask` takes."""
        return self.population, 2 * k


class Constants(NamedTuple):
    """Of a population of m in k dimensions: weights ``w`` [m // 2], their effective number, rates and damping."""

    w: Float[np.ndarray, " half"]
    effective: float
    c_sigma: float
    damping: float
    c_c: float
    c_1: float
    c_mu: float


def constants(m: int, k: int) -> Constants:
    """The tutorial's defaults [hansen2016, Table 1, without negative weights]."""
    w = np.log((m + 1) / 2) - np.log(np.arange(1, m // 2 + 1))
    w /= w.sum()
    effective = float(1 / (w**2).sum())
    c_sigma = (effective + 2) / (k + effective + 5)
    damping = 1 + 2 * max(0.0, float(np.sqrt((effective - 1) / (k + 1))) - 1) + c_sigma
    c_c = (4 + effective / k) / (k + 4 + 2 * effective / k)
    c_1 = 2 / ((k + 1.3) ** 2 + effective)
    c_mu = min(1 - c_1, 2 * (0.25 + effective + 1 / effective - 2) / ((k + 2) ** 2 + effective))
    return Constants(w, effective, c_sigma, damping, c_c, c_1, c_mu)


def adapted(state: SearchState, ranked: Float[np.ndarray, "m k"]) -> SearchState:
    """The next Gaussian from candidates in the order of their values, best first [hansen2016, Figure 6]."""
    m, k = ranked.shape
    w, effective, c_sigma, damping, c_c, c_1, c_mu = constants(m, k)
    length = math.sqrt(2) * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2))  # of a standard normal, on average
    y = (ranked[: len(w)] - state.mean) / state.sigma
    step = w @ y
    scale, axes = np.linalg.eigh(state.C)
    whitened = axes @ ((axes.T @ step) / np.sqrt(scale))
    path_sigma = (1 - c_sigma) * state.path_sigma + np.sqrt(c_sigma * (2 - c_sigma) * effective) * whitened
    settled = 1 - (1 - c_sigma) ** (2 * (state.generation + 1))
    moving = float(path_sigma @ path_sigma / k / settled < 2 + 4 / (k + 1))
    path_c = (1 - c_c) * state.path_c + moving * np.sqrt(c_c * (2 - c_c) * effective) * step
    kept = 1 - c_1 - c_mu + (1 - moving) * c_1 * c_c * (2 - c_c)
    C = kept * state.C + c_1 * np.outer(path_c, path_c) + c_mu * (y.T * w) @ y
    sigma = state.sigma * np.exp(min(1.0, c_sigma / damping * (np.linalg.norm(path_sigma) / length - 1)))
    return replace(
        state, mean=state.mean + state.sigma * step, sigma=float(sigma), C=(C + C.T) / 2, path_sigma=path_sigma,
        path_c=path_c, generation=state.generation + 1,
    )  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Every point of an even grid, in one generation. Fields: ``resolution`` points a dimension, >= 1 (1: the middle)."""

    resolution: int = 9

    def __post_init__(self) -> None:
        if self.resolution < 1:
            raise SettingError(f"resolution = {self.resolution}; a grid needs at least 1 point a dimension")

    def init(self, k: int) -> SearchState:
        """Nothing asked yet."""
        return fresh_search(k)

    def ask(self, state: SearchState, u: Float[np.ndarray, "m *none"]) -> Float[np.ndarray, "m k"]:
        """All points; the uniforms are not used."""
        return grid_points(self.resolution, len(state.mean))

    def tell(self, state: SearchState, x: Float[np.ndarray, "m k"], f: Float[np.ndarray, " m"]) -> SearchState:
        """Keep the first of the smallest."""
        i = int(np.argmin(f))
        return best_of(replace(state, generation=state.generation + 1), x[i], float(f[i]))

    def done(self, state: SearchState) -> bool:
        """True after one generation."""
        return state.generation >= 1

    def draws(self, k: int) -> tuple[int, int]:
        """No uniforms are needed."""
        return self.resolution**k, 0


def grid_points(resolution: int, k: int) -> Float[np.ndarray, "m k"]:
    """The even grid on the unit cube, the last dimension fastest; one point is the middle."""
    line = np.linspace(0, 1, resolution) if resolution > 1 else np.array([0.5])
    return np.stack(np.meshgrid(*[line] * k, indexing="ij"), -1).reshape(-1, k)


def inside(x: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m k"]:
    """The nearest points of the unit cube."""
    return np.clip(x, 0.0, 1.0)


def best_of(state: SearchState, x: Float[np.ndarray, " k"], value: float) -> SearchState:
    """The state with the smaller of its value and a new one."""
    return replace(state, x=np.clip(x, 0.0, 1.0), value=value) if value < state.value else state
