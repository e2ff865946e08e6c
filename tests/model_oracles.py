"""Slow, obvious answers that the tests of models, access and policies compare with: loops, enumeration, linear programs."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
from scipy.optimize import linprog


def dense(mdp, h=0):
    """Transitions [S, A, S] of a stage, whatever the storage."""
    P = mdp.P_at(h)
    return np.asarray(P.toarray() if hasattr(P, "toarray") else P).reshape(mdp.S, mdp.A, mdp.S)


def policy_value(mdp, actions):
    """Value [S] of a deterministic stationary policy in a discounted model, by one linear solve."""
    s = np.arange(mdp.S)
    return np.linalg.solve(np.eye(mdp.S) - mdp.gamma * dense(mdp)[s, actions], mdp.r_at()[s, actions])


def best_by_enumeration(mdp):
    """Optimal value [S] and the set of optimal policies, by trying every deterministic stationary policy."""
    tried = {a: policy_value(mdp, np.array(a)) for a in itertools.product(range(mdp.A), repeat=mdp.S)}
    v = np.max(list(tried.values()), axis=0)
    return v, {a for a, x in tried.items() if np.allclose(x, v, rtol=0, atol=1e-9)}


def best_by_linear_program(mdp):
    """Optimal value [S] of a discounted model: the least v with v >= r + gamma P v. HiGHS solves it to about 1e-7."""
    S, A = mdp.S, mdp.A
    rows = np.repeat(np.eye(S), A, axis=0) - mdp.gamma * dense(mdp).reshape(S * A, S)
    found = linprog(np.ones(S), A_ub=-rows, b_ub=-mdp.r_at().ravel(), bounds=(None, None), method="highs")
    assert found.status == 0, found.message
    return found.x


def best_by_recursion(mdp, steps=None):
    """Optimal finite-horizon value [S] at stage 0, by plain loops over states, actions and successors."""
    v = [0.0] * mdp.S
    for h in reversed(range(steps or mdp.horizon)):
        P, r = dense(mdp, h if mdp.is_staged else 0), mdp.r_at(h if mdp.is_staged else 0)
        v = [
            max(r[s, a] + mdp.gamma * sum(P[s, a, y] * v[y] for y in np.flatnonzero(P[s, a])) for a in range(mdp.A))
            for s in range(mdp.S)
        ]
    return np.array(v)


def trajectory_law(mdp, policy, steps):
    """Exact law of (s0, a0, r0, s1, a1, r1, ..., last state): a dict from tuples to probabilities.

    Policies may have memory; it is carried along one row at a time.
    """
    law = defaultdict(float)

    def walk(path, p, memory, h, s):
        if h == steps or mdp.terminal[s]:
            law[(*path, s)] += p
            return
        P = dense(mdp, h if mdp.is_staged else 0)[s]
        probs = np.asarray(policy.probs(memory, h, np.array([s])))[0]
        for a in np.flatnonzero(probs > 0):
            for y in np.flatnonzero(P[a] > 0):
                for r, q in reward_atoms(mdp, h, s, a, y):
                    after = policy.update(memory, h, np.array([s]), np.array([a]), np.array([r]), np.array([y]))
                    walk((*path, s, int(a), r), p * probs[a] * P[a, y] * q, after, h + 1, int(y))

    for s in np.flatnonzero(mdp.mu > 0):
        walk((), float(mdp.mu[s]), policy.start(1), 0, int(s))
    return dict(law)


def reward_atoms(mdp, h, s, a, y):
    """(reward, probability) pairs of one transition."""
    if mdp.reward_law is not None:
        law = mdp.reward_law
        return [(float(x), q) for x, q in zip(law.values, law.probs[s, a], strict=True) if q > 0]
    r = mdp.r[h] if mdp._r_staged else mdp.r
    if hasattr(r, "toarray"):
        return [(float(r[s * mdp.A + a, y]), 1.0)]
    return [(float(r[s, a] if r.ndim == 2 else r[s, a, y]), 1.0)]


def paths(rows):
    """The sampled rows of `Trajectories` as tuples that `trajectory_law` is keyed by."""
    out = []
    for i in range(rows.n):
        path = []
        for t in np.flatnonzero(rows.mask[i]):
            path += [int(rows.states[i, t]), int(rows.actions[i, t]), float(rows.rewards[i, t])]
        out.append((*path, int(rows.final_states[i])))
    return out


def total_variation(p, q):
    """Total variation distance of two laws given as dicts."""
    return 0.5 * sum(abs(p.get(k, 0.0) - q.get(k, 0.0)) for k in set(p) | set(q))
