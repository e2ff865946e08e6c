"""Benchmark of the policy-gradient methods: ``python -m benchmarks.policy_gradient [--quick]``.

Two questions, each answered by ratios of medians in one process on one thread. Times are CPU times, which other work on
the machine disturbs least:

1. What does HARPG's exact Hessian-vector product cost? One step of HARPG against one step of REINFORCE with the same
   network and the same batch, sampling and arithmetic apart and together. Goal: at most 4 times.
2. What do replicas gain? Milliseconds per step and replica of the scaled tabular method with 1024 replicas against the
   reference run by itself. Goal: at least 10 times on FrozenLake, 50 times on a two-state chain.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from polytheory import models
from polytheory.access import Key, Online, Requests
from polytheory.access.gymnasium import VectorEnvs
from polytheory.reference.policy_gradient import harpg as reference
from polytheory.reference.policy_gradient.n_pg_igt import NPgIgt as ReferenceNPgIgt
from polytheory.scaled.policy_gradient import harpg as scaled
from polytheory.scaled.policy_gradient.means import mean_hvp, mean_hvp_backward, mean_pg
from polytheory.scaled.policy_gradient.n_pg_igt import NPgIgt as ScaledNPgIgt
from polytheory.scaled.policy_gradient.peers import VanillaPg
from polytheory.scaled.policy_gradient.torch_policy import TorchPolicy
from polytheory.streams import row_ids

REPLICAS = 1024
GROUP = 20  # reference steps timed together
GOALS = {"frozenlake": 10.0, "two-state": 50.0, "harpg": 4.0}


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median CPU time of one call, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


class Stepper:
    """One step of a method per call, from a state that moves on."""

    def __init__(self, method, access, warm: int = 3):
        self.method, self.access = method, access
        self.state = method.init(access, 0)
        for _ in range(warm):
            self()

    def __call__(self) -> None:
        self.state, _ = self.method.step(self.state, self.access)


def replicas_table(repeats: int) -> Table:
    """Scaled against reference, per step and replica."""
    table = Table(title=f"One step of one replica: {REPLICAS} replicas in torch against the reference loop (1 thread)")
    for heading in (
        "model",
        "method",
        "truncation",
        "reference ms",
        "scaled ms / replica",
        "scaled ms / step",
        "speed-up",
        "goal",
    ):
        table.add_column(heading, justify="left" if heading in ("model", "method") else "right")
    methods = {
        "N-PG-IGT": (ReferenceNPgIgt, ScaledNPgIgt),
        "HARPG": (reference.Harpg, scaled.Harpg),
    }
    for name, truncation in (("two-state", 20), ("frozenlake", 100)):
        model = models.make(name)
        for method, (reference_class, scaled_class) in methods.items():
            settings = {"truncation": truncation, "gamma0": 0.1}
            tabular = {
                "reference": reference_class(reference.TabularSoftmax.zeros(model.S, model.A), **settings),
                "scaled": scaled_class(scaled.TabularSoftmax.zeros(model.S, model.A), **settings),
            }
            # FrozenLake's episodes differ in length: many reference steps make a stable median of means
            one = Stepper(tabular["reference"], Online(model))
            many = Stepper(tabular["scaled"], Online(model).replicate(REPLICAS))
            slow = milliseconds(lambda one=one: [one() for _ in range(GROUP)], 2 * repeats) / GROUP
            fast = milliseconds(many, repeats)
            ratio = slow * REPLICAS / fast
            goal = GOALS[name]
            table.add_row(
                name, method, str(truncation), f"{slow:.3f}", f"{fast / REPLICAS:.5f}", f"{fast:.2f}",
                f"x{ratio:.0f}", f"x{goal:.0f} {'met' if ratio >= goal else 'MISSED'}",
            )  # fmt: skip
    return table


def hessian_table(repeats: int, batch: int) -> Table:
    """HARPG against REINFORCE at equal batch, on CartPole with a 64-64 network."""
    torch.manual_seed(0)
    tanh = torch.nn.Tanh
    net = torch.nn.Sequential(torch.nn.Linear(4, 64), tanh(), torch.nn.Linear(64, 64), tanh(), torch.nn.Linear(64, 2))
    access, policy = VectorEnvs("CartPole-v1", batch), TorchPolicy(net)
    requests = Requests(row_ids(0, np.arange(batch)), 200)

    def sample(step: int):
        with policy.at(policy.theta) as at:
            return access.rollouts(at, requests, Key(0, "bench", step))

    traj, gamma = sample(0), access.spec.gamma
    u = 1e-2 * torch.randn_like(policy.theta)
    sampling = milliseconds(lambda: sample(0), repeats)
    gradient = milliseconds(lambda: mean_pg(policy, traj, gamma=gamma), repeats)
    hvp = milliseconds(lambda: mean_hvp(policy, traj, u, gamma=gamma), repeats)
    backward = milliseconds(lambda: mean_hvp_backward(policy, traj, u, gamma=gamma), repeats)
    settings = {"truncation": 200, "batch": batch, "gamma0": 1e-6}  # tiny steps: both sides sample alike episodes
    vanilla = milliseconds(Stepper(VanillaPg(policy, **settings), access), repeats)
    harpg = milliseconds(Stepper(scaled.Harpg(policy, **settings), access), repeats)

    steps = int(traj.mask.sum())
    table = Table(
        title=f"HARPG against REINFORCE: CartPole, 4-64-64-2 tanh, {batch} episodes ({steps} steps) a batch, 1 thread"
    )
    for name in ("part", "REINFORCE ms", "HARPG ms", "ratio", "goal"):
        table.add_column(name, justify="left" if name == "part" else "right")
    whole = (gradient, gradient + hvp)
    rows = (
        ("sampling (HARPG takes two batches)", sampling, 2 * sampling, ""),
        ("arithmetic: g against g and B u", *whole, f"<= x{GOALS['harpg']:.0f} {_met(whole[1] / whole[0])}"),
        ("arithmetic, B u by double back-propagation", gradient, gradient + backward, ""),
        ("whole step, measured", vanilla, harpg, f"<= x{GOALS['harpg']:.0f} {_met(harpg / vanilla)}"),
    )
    for part, a, b, goal in rows:
        table.add_row(part, f"{a:.2f}", f"{b:.2f}", f"x{b / a:.2f}", goal)
    return table


def _met(ratio: float) -> str:
    return "met" if ratio <= GOALS["harpg"] else "MISSED"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, a smaller batch")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    console = Console(width=120)
    console.print(
        f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, {platform.machine()}"
    )
    console.print(replicas_table(repeats=5 if quick else 21))
    console.print(hessian_table(repeats=5 if quick else 15, batch=16 if quick else 64))


if __name__ == "__main__":
    main()
