"""Train a small network on CartPole with HARPG, next to N-PG-IGT and plain policy gradient at equal episodes.

    python examples/cartpole_harpg.py [--episodes 320] [--seed 0]

Prints the mean return of fresh episodes before and after, and the episodes and transitions each method took. One easy
task and one seed say nothing about which method is better; they show how the pieces fit together.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from polytheory.access import Key, Requests
from polytheory.access.gymnasium import VectorEnvs
from polytheory.run import run
from polytheory.scaled.policy_gradient.harpg import Harpg, NHarpg
from polytheory.scaled.policy_gradient.n_pg_igt import NPgIgt
from polytheory.scaled.policy_gradient.peers import VanillaPg
from polytheory.scaled.policy_gradient.torch_policy import TorchPolicy
from polytheory.streams import row_ids

BATCH, TRUNCATION, EVALUATION = 16, 200, 32


def network(seed: int) -> torch.nn.Module:
    """Observations to logits of the two actions."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))


def mean_return(policy: TorchPolicy, seed: int) -> float:
    """Mean undiscounted return of fresh episodes."""
    access = VectorEnvs("CartPole-v1", BATCH)
    requests = Requests(row_ids(0, np.arange(EVALUATION)), TRUNCATION)
    return float(access.rollouts(policy, requests, Key(seed, "evaluation", 0)).rewards.sum(1).mean())


def main() -> None:
    """Train, evaluate, print one line a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=320, help="episodes for each method")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'method':<10} {'before':>7} {'after':>7} {'episodes':>9} {'transitions':>12}")
    for method, gamma0 in ((Harpg, 0.002), (NHarpg, 0.3), (NPgIgt, 0.3), (VanillaPg, 0.002)):
        policy = TorchPolicy(network(args.seed))
        algorithm = method(policy, truncation=TRUNCATION, gamma0=gamma0, batch=BATCH)
        access = VectorEnvs("CartPole-v1", BATCH)
        end = run(algorithm, access, episodes=args.episodes, seed=args.seed)
        before, after = mean_return(policy, args.seed), mean_return(end.policy, args.seed)
        spent = (end.meter.total("episodes"), end.meter.total("transitions"))
        print(f"{method.__name__:<10} {before:7.1f} {after:7.1f} {spent[0]:9d} {spent[1]:12d}", flush=True)


if __name__ == "__main__":
    main()
