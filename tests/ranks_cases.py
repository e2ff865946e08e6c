"""Small trainings that one process and several make alike; run as a program, the part of one of several processes.

``python -m ranks_cases FOLDER`` trains every case and leaves what it found in FOLDER/<rank>.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from polytheory import checkpoints
from polytheory._trees import layout
from polytheory.access.language import Demonstrations, Prompts, WeightedReward
from polytheory.errors import UnknownNameError
from polytheory.models.text.tasks import task
from polytheory.run import run
from polytheory.scaled.language import ranks as processes
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.optimiser import AdamW, Harpg, NPgIgt, Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.ranks import Ranks
from polytheory.scaled.language.sft import Sft
from polytheory.scaled.language.sharding import whole
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model
from polytheory.scaled.posttraining.copg import Copg
from polytheory.scaled.posttraining.grpo import Grpo
from polytheory.scaled.posttraining.nft import Nft
from polytheory.scaled.posttraining.riskpo import RiskPo

GROUPS = {"prompts": 3, "group_size": 4}
CASES = {
    "grpo": (Grpo, {**GROUPS, "beta": 0.1, "updates": 1}, AdamW(1e-2), {"mini_batches": 2, "micro_batch": 4}),
    "token mean": (Grpo, {**GROUPS, "normalisation": "token_mean", "scale": "batch", "beta": 0.0}, Sgd(0.5), {}),
    "gspo": (Grpo, {**GROUPS, "surrogate": "gspo", "updates": 2, "beta": 0.0, "eps_low": 0.01}, Sgd(0.5), {}),
    "dapo": (
        Grpo, {"prompts": 3, "group_size": 2, "dynamic": True, "rounds": 3, "normalisation": "token_mean", "beta": 0.0},
        Sgd(0.5), {},
    ),
    "rloo with n-pg-igt": (
        Grpo, {**GROUPS, "advantage": "rloo", "surrogate": "reinforce", "normalisation": "seq_sum", "beta": 0.0},
        NPgIgt(0.5), {},
    ),
    "rloo with harpg": (
        Grpo, {**GROUPS, "advantage": "rloo", "surrogate": "reinforce", "normalisation": "seq_sum", "beta": 0.0},
        Harpg(0.5), {},
    ),
    "nft": (Nft, {**GROUPS, "updates": 2}, Sgd(0.5), {}),
    "riskpo": (RiskPo, {"prompts": 4, "group_size": 4, "bundle_size": 2}, Sgd(0.5), {}),
    "copg": (Copg, {"prompts": 3, "group_size": 3, "beta": 0.3}, Sgd(0.5), {}),
    "one group": (Grpo, {"prompts": 1, "group_size": 8, "beta": 0.0}, Sgd(0.5), {"gradient_checkpointing": True}),
}  # fmt: skip
SHARDED = ("grpo", "dapo", "nft", "one group")
STEPS = 2


def even(completions):
    """Half of all first digits are right, so that groups have both kinds."""
    return [float(bool(c) and c[0] in "02468Q+*") for c in completions]


def world():
    return Prompts(task("copy").rows(32), character_tokenizer(), [WeightedReward("even", even)], max_length=5)


def model():
    return tiny_model(len(character_tokenizer()), hidden=16, heads=2, feed_forward=16, layers=1).double()


def algorithm(name):
    if name == "bfloat16":
        return Finetune(Grpo(policy=CausalPolicy(model().bfloat16(), 1), prompts=2, group_size=4, beta=0.0), Sgd(0.5))
    if name == "sft":
        return Sft(CausalPolicy(model(), 1), AdamW(1e-2), batch=9)
    method, settings, optimiser, driver = CASES[name]
    return Finetune(method(policy=CausalPolicy(model(), 1), **settings), optimiser, **driver)


def access(name):
    if name != "sft":
        return world()
    rows = task("copy").rows(32)
    return Demonstrations({**rows, "completion": [f"{i}7" for i in range(32)]}, character_tokenizer())


def outcome(name, steps=STEPS, **options):
    """Weights at the end, everything logged, what was asked of the world."""
    end = run(algorithm(name), access(name), steps=steps, seed=3, progress=False, **options)
    found = whole(end.state.model)
    return {
        "weights": torch.cat([p.detach().ravel() for p in found.parameters()]),
        "masters": torch.cat([_whole(p).ravel() for p in getattr(end.state.optimizer, "params", [])] or [torch.zeros(0)]),
        "history": list(end.history.rows()), "memory": end.state.memory, "episodes": end.meter.total("episodes"),
    }  # fmt: skip


def _whole(p):
    return (p.full_tensor() if hasattr(p, "full_tensor") else p).detach()


class Foreign(Exception):
    """An error of somebody else's, with more than a text."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


ERRORS = (UnknownNameError("colour", "gren", ["green", "red"]), ValueError("no such row"), Foreign("é" * 40, 2))


def shared_errors(ranks):
    """What this process sees of errors in the second one, and of one in each."""
    found = []
    for blame, error in [*((1, error) for error in ERRORS), (ranks.rank, ValueError(f"own of {ranks.rank}"))]:
        try:
            with ranks.together():
                if ranks.rank == blame:
                    raise error
        except Exception as seen:
            found.append([type(seen).__name__, str(seen)])
    return found


def start(words, n, env=None, **options):
    """``n`` processes of the program ``words`` that know of each other as a launcher's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ, "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path), **(env or {}),
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, *words], env={**shared, "RANK": str(i), "LOCAL_RANK": str(i)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )
        for i in range(n)
    ]  # fmt: skip


def ends(started, timeout=300):
    """(exit code, stdout, stderr) of each; none is left running."""
    try:
        texts = [x.communicate(timeout=timeout) for x in started]
    finally:
        for x in started:
            x.kill()
    return [(x.returncode, *text) for x, text in zip(started, texts, strict=True)]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    ranks = processes.join("cpu")
    found = {name: outcome(name) for name in (*CASES, "sft")}
    for kind in ("copied", "sharded"):
        processes._RANKS = Ranks(ranks.rank, ranks.world, "cpu", sharded=kind == "sharded")
        if kind == "sharded":
            found |= {f"sharded {name}": outcome(name) for name in (*SHARDED, "sft")}
        found[f"{kind} bfloat16"] = outcome("bfloat16", 1, checkpoint=folder / kind / "bfloat16")
        found[f"{kind} bfloat16 again"] = outcome("bfloat16", 1, checkpoint=folder / kind / "bfloat16")
        path = folder / kind
        outcome("grpo", 1, checkpoint=path / "here")
        outcome("grpo", 1, checkpoint=path / "there")  # to be continued by one process
        found[f"{kind} whole"] = outcome("grpo", 3)
        found[f"{kind} resumed"] = outcome("grpo", 3, checkpoint=path / "here")
        found[f"{kind} from one"] = outcome("grpo", 3, checkpoint=folder / f"one {kind}")
    found["errors"] = shared_errors(ranks)
    checkpoints.save(folder / str(ranks.rank), 0, found, {}, layout(found))
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
