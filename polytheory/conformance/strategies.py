"""Public Hypothesis strategies for models, policies and trajectories, the ugly ones included.

One state, one action, zero and equal rewards, ties, absorbing states, probabilities 0 and 1, gamma 0 and close to 1,
empty masks, groups of one. Probabilities are ratios of small integers and rewards multiples of 1/8, so that failing
examples shrink to something readable. Needs the ``conform`` extra.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from polytheory.errors import require
from polytheory.models.block import BlockMDP
from polytheory.models.linear import LinearMDP
from polytheory.models.tabular import RewardAtoms, TabularMDP, by_stage
from polytheory.policies import Mixture, TabularPolicy
from polytheory.trajectories import Trajectories

st: Any = require("hypothesis.strategies", "conform")

GAMMAS = (0.0, 0.5, 0.9, 0.99, 0.999)


def distributions(n: int) -> Any:
    """Probability vectors of length n >= 1, often with zeros, sometimes with a single 1. Draws arrays [n]."""
    weights = st.lists(st.integers(0, 4), min_size=n, max_size=n)
    return weights.map(lambda w: np.array(w if any(w) else [1, *[0] * (n - 1)], dtype=float)).map(lambda w: w / w.sum())


def values(mdp: TabularMDP, *, scale: float = 10.0) -> Any:
    """Value vectors [S] with entries in [-scale, scale], often equal to each other."""
    entries = st.one_of(st.integers(-8, 8).map(lambda k: k * scale / 8), st.floats(-scale, scale, width=32))
    return st.lists(entries, min_size=mdp.S, max_size=mdp.S).map(lambda x: np.array(x, dtype=float))


@st.composite
def tabular_mdps(
    draw: Any,
    *,
    max_states: int = 5,
    max_actions: int = 3,
    horizon: int | None = None,
    gamma: Any = None,
    sparse: bool | None = False,
    staged: bool = False,
    terminal: bool = True,
    transition_rewards: bool = False,
    random_rewards: bool = False,
) -> TabularMDP:
    """Finite MDPs.

    Args:
        max_states, max_actions: at least 1 of each is drawn.
        horizon: None draws discounted models; a number gives finite-horizon ones (gamma may then be 1).
        gamma: fixed discount, or None for one of 0, 0.5, 0.9, 0.99, 0.999 (and 1 with a horizon).
        sparse: True stores CSR, None draws either.
        staged: stage-dependent transitions and rewards (needs a horizon).
        terminal: allow terminal states.
        transition_rewards: allow rewards ``[S, A, S]``.
        random_rewards: allow a reward law with atoms -1, 0 and 2 (not with ``staged``).
    """
    S, A = draw(st.integers(1, max_states)), draw(st.integers(1, max_actions))
    discounts = GAMMAS if horizon is None else (*GAMMAS, 1.0)
    discount: float = draw(st.sampled_from(discounts)) if gamma is None else gamma
    stages = (horizon,) if staged and horizon is not None else ()
    ends = np.zeros(S, dtype=bool)
    if terminal and S > 1 and draw(st.booleans()):
        ends[draw(st.integers(0, S - 1))] = True
    by_transition = transition_rewards and draw(st.booleans())
    rows = int(np.prod(stages, dtype=int)) * S * A
    P = np.stack(draw(st.lists(distributions(S), min_size=rows, max_size=rows))).reshape(*stages, S, A, S)
    shape = (*stages, S, A, S) if by_transition else (*stages, S, A)
    size = int(np.prod(shape))
    eighths = st.one_of(st.just(0), st.integers(-8, 8))
    if draw(st.booleans()):
        r = np.array(draw(st.lists(eighths, min_size=size, max_size=size)), dtype=float).reshape(shape) / 8
    else:
        r = np.full(shape, draw(eighths) / 8)  # every reward the same: everything ties
    P[..., ends, :, :] = np.eye(S)[ends][:, None, :]
    if by_transition:
        r[..., ends, :, :] = 0.0
    else:
        r[..., ends, :] = 0.0
    law = None
    if random_rewards and not stages and draw(st.booleans()):
        by_transition, atoms = False, np.array([-1.0, 0.0, 2.0])
        probs = np.stack(draw(st.lists(distributions(3), min_size=S * A, max_size=S * A))).reshape(S, A, 3)
        probs[ends] = (0.0, 1.0, 0.0)
        r, law = probs @ atoms, RewardAtoms(atoms, probs)
    mu = draw(distributions(S))
    if draw(st.booleans()) if sparse is None else sparse:
        if by_transition:
            r = np.einsum("...k,...k->...", P, r)
        flat = P.reshape(*stages, S * A, S)
        P = tuple(sp.csr_matrix(p) for p in flat) if stages else sp.csr_matrix(flat)
    elif r.shape == (horizon,) * 3:  # by stage or by transition? Say it with one more axis
        r = np.stack([r] * S) if by_transition else by_stage(r, horizon)
    return TabularMDP(P, r, mu, horizon, discount, ends, law, name="generated")


@st.composite
def tabular_policies(
    draw: Any, mdp: TabularMDP, *, staged: bool = False, deterministic: bool | None = None
) -> TabularPolicy:
    """Policies of a model, ``[S, A]`` or by stage; deterministic ones among them unless asked otherwise."""
    stages = (mdp.horizon or 1,) if staged else ()
    rows = int(np.prod(stages, dtype=int)) * mdp.S
    if draw(st.booleans()) if deterministic is None else deterministic:
        actions = draw(st.lists(st.integers(0, mdp.A - 1), min_size=rows, max_size=rows))
        return TabularPolicy.deterministic(np.array(actions, dtype=np.int64).reshape(*stages, mdp.S), mdp.A)
    table = np.stack(draw(st.lists(distributions(mdp.A), min_size=rows, max_size=rows)))
    return TabularPolicy(table.reshape(*stages, mdp.S, mdp.A))


@st.composite
def mixtures(draw: Any, mdp: TabularMDP, *, max_components: int = 3, staged: bool = False) -> Mixture:
    """Mixtures of policies that share the weights unequally, some with weight 0."""
    k = draw(st.integers(1, max_components))
    components = tuple(draw(tabular_policies(mdp, staged=staged)) for _ in range(k))
    return Mixture(components, draw(distributions(k)))


def softmax_parameters(size: int, *, scale: float = 4.0) -> Any:
    """Logits [size] in [-scale, scale], zeros and ties included."""
    entries = st.one_of(st.just(0.0), st.integers(-8, 8).map(lambda k: k * scale / 8))
    return st.lists(entries, min_size=size, max_size=size).map(lambda x: np.array(x, dtype=float))


@st.composite
def linear_mdps(draw: Any, *, max_states: int = 5, max_actions: int = 3, max_features: int = 3) -> LinearMDP:
    """Linear MDPs whose features and measures are probability vectors, discounted or staged with a short horizon."""
    S, A = draw(st.integers(1, max_states)), draw(st.integers(1, max_actions))
    d, horizon = draw(st.integers(1, max_features)), draw(st.sampled_from([None, 1, 3]))
    stages = (horizon,) if horizon is not None and draw(st.booleans()) else ()
    phi = np.stack([draw(distributions(d)) for _ in range(S * A)]).reshape(S, A, d)
    count = int(np.prod(stages, dtype=int)) * d
    measures = np.stack([draw(distributions(S)) for _ in range(count)]).reshape(*stages, d, S)
    theta = np.array([draw(st.integers(-8, 8)) / 8 for _ in range(count)]).reshape(*stages, d)
    gamma = draw(st.sampled_from(GAMMAS)) if horizon is None else 1.0
    return LinearMDP(phi, measures, theta, draw(distributions(S)), horizon, gamma, "generated")


@st.composite
def block_mdps(draw: Any, *, max_states: int = 3, max_actions: int = 2, max_observations: int = 3) -> BlockMDP:
    """Block MDPs: every latent state emits one to ``max_observations`` observations of its own."""
    latent = draw(tabular_mdps(max_states=max_states, max_actions=max_actions))
    counts = [draw(st.integers(1, max_observations)) for _ in range(latent.S)]
    emission = np.zeros((latent.S, sum(counts)))
    begin = 0
    for s, k in enumerate(counts):
        weights = np.array([draw(st.integers(1, 4)) for _ in range(k)], dtype=float)
        emission[s, begin : begin + k] = weights / weights.sum()
        begin += k
    return BlockMDP(latent, emission)


@st.composite
def trajectories(
    draw: Any,
    *,
    n_states: int = 3,
    n_actions: int = 2,
    max_rows: int = 4,
    max_steps: int = 5,
    columns: tuple[str, ...] = (),
) -> Trajectories:
    """Trajectories with prefix masks, empty rows and groups of one included; masked entries hold zeros.

    ``columns`` names frozen log-prob columns to add, such as "log_probs_old". Rows need not follow any model: for rows that
    do, roll out a generated policy in a generated model.
    """
    n, t = draw(st.integers(1, max_rows)), draw(st.integers(1, max_steps))
    lengths = np.array([draw(st.integers(0, t)) for _ in range(n)])
    mask = np.arange(t) < lengths[:, None]

    def table(entry: Any, dtype: type) -> np.ndarray:
        found = np.array(draw(st.lists(entry, min_size=n * t, max_size=n * t)), dtype=dtype).reshape(n, t)
        return np.where(mask, found, np.zeros((), dtype=dtype))

    log_probs = st.integers(1, 8).map(lambda k: float(np.log(k / 8)))
    return Trajectories(
        states=table(st.integers(0, n_states - 1), np.int64),
        actions=table(st.integers(0, n_actions - 1), np.int64),
        rewards=table(st.integers(-8, 8).map(lambda k: k / 8), np.float64),
        mask=mask,
        log_probs_sampler=table(log_probs, np.float64),
        final_states=np.array([draw(st.integers(0, n_states - 1)) for _ in range(n)], dtype=np.int64),
        finished=np.array([draw(st.booleans()) for _ in range(n)]),
        group=np.array([draw(st.integers(0, n - 1)) for _ in range(n)], dtype=np.int64),
        columns={name: table(log_probs, np.float64) for name in columns},
    )


def batches(**options: Any) -> Any:
    """Batches of completions as tensors, as `checks_for` tries them; options as in `polytheory.conformance.batches.batches`.

    Needs the ``scaled`` extra as well.
    """
    from polytheory.conformance.batches import batches as draw

    return draw(**options)
