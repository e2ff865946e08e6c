"""Episodes per CPU second of rlberry's UCBVI: ``python exploration_rlberry.py MODEL.npz EPISODES``, in its own environment.

That needs rlberry and rlberry-scool 0.7.3 (``pip install rlberry``, then ``pip install --no-deps rlberry-scool``), not
polytheory. The file holds ``P`` [S, A, S], ``r`` [S, A], ``mu`` [S] and ``horizon``. Counts are kept by stage, as ours are, and
the backward induction is compiled by numba; the first episodes, in which it is compiled, are not counted.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from rlberry.envs.finite_mdp import FiniteMDP
from rlberry_scool.agents import UCBVIAgent

WARM_UP = 5


def main() -> None:
    """Print the rate."""
    stored, episodes = np.load(sys.argv[1]), int(sys.argv[2])
    env = FiniteMDP(stored["r"], stored["P"], initial_state_distribution=stored["mu"])
    agent = UCBVIAgent(env, gamma=1.0, horizon=int(stored["horizon"]), stage_dependent=True)
    agent.fit(WARM_UP)
    start = time.process_time()
    agent.fit(episodes)
    print(episodes / (time.process_time() - start))


if __name__ == "__main__":
    main()
