"""Short runs of TRL's trainer on a tiny model, and what they must have computed, by another route.

The oracle: completions are scored again from their text, grouped by their prompt, scored by the weights of the time in a
forward pass of its own, and the reference room (NumPy, gradients in closed form) gives loss and gradient of the whole
accumulated batch at once.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import GRPOConfig

from polytheory.access import Key
from polytheory.integrations.trl import PolytheoryGRPOTrainer
from polytheory.reference.posttraining.base import Counts
from polytheory.reference.posttraining.composition import evaluate
from polytheory.reference.posttraining.grpo import Grpo
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model
from polytheory.streams import row_ids

PROMPTS = [f"{'+' * (i % 3)}{i}{(7 * i + 3) % 10}=" for i in range(10)]
TOKENIZER = character_tokenizer()
# TRL computes log-probs in single precision whatever the model: a log-sum-exp of 26 logits near 1 is off by at most
# 64 roundings
LOG_PROB = 64 * float(np.finfo(np.float32).eps) / 2


def score(text: str) -> float:
    """Digits of a completion, less a half for every bracket: exact in float32."""
    return sum(c.isdigit() for c in text) - 0.5 * sum(c in "()[]{}" for c in text)


def verdict(text: str) -> float:
    """1 where the first character is a digit or a sign, else 0."""
    return float(text[:1] in "0123456789+-*=")


def model(folder: Any) -> Any:
    """The tiny model, float64, saved once under ``folder``."""
    path = folder / "tiny"
    if not path.exists():
        tiny_model(len(TOKENIZER), hidden=16, heads=2, feed_forward=32, seed=3).save_pretrained(path)
        TOKENIZER.save_pretrained(path)
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)


def trainer(cls: Any, folder: Any, reward: Any = score, ours: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A trainer on the tiny model: 2 prompts x 4 completions, in 2 micro-batches of 4; plain gradient descent, no clip."""
    given = {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_generations": 4, "max_steps": 4,
        "max_completion_length": 6, "num_iterations": 2, "learning_rate": 0.1,
        "save_strategy": "no", **settings,
    }  # fmt: skip
    args = GRPOConfig(
        output_dir=str(folder / "out"), use_cpu=True, bf16=False, report_to=[], optim="sgd", logging_steps=1,
        lr_scheduler_type="constant", max_grad_norm=0.0, disable_tqdm=True, **given,
    )  # fmt: skip

    def rewards(completions: list[str], **_: Any) -> list[float]:
        return [reward(text) for text in completions]

    data = Dataset.from_dict({"prompt": PROMPTS})
    return cls(model(folder), rewards, args, data, processing_class=TOKENIZER, **(ours or {}))


class Steps(TrainerCallback):
    """Weights before and gradients of every optimiser step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        self.weights.append({name: p.detach().clone() for name, p in model.named_parameters()})
        self.gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})


def recorded(run: Any) -> tuple[Steps, list[dict[str, Any]], list[float]]:
    """Train; the steps, the micro-batches as the loss was given them, and the losses of micro-batches."""
    steps, batches, losses = Steps(), [], []
    run.add_callback(steps)
    before = run._compute_loss

    def compute(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        batches.append(copy.copy(inputs))
        loss = before(model, inputs)
        losses.append(float(loss.detach()))
        return loss

    run._compute_loss = compute
    run.train()
    return steps, batches, losses


@cache
def forward_model(path: Any) -> Any:
    """A model of its own for the oracle."""
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)


def log_probs(folder: Any, weights: dict[str, torch.Tensor], rows: dict[str, torch.Tensor]) -> tuple[Any, Any]:
    """Log-probs [n, t] of completions one row at a time without padding, and the parameters they depend on."""
    lm = forward_model(folder / "tiny")
    lm.load_state_dict(weights)
    out = []
    names = ("prompt_ids", "prompt_mask", "completion_ids", "mask")
    for prompt, asked, ids, mask in zip(*(rows[name] for name in names), strict=True):
        prompt, n = prompt[asked.bool()], int(mask.sum())
        logits = lm(torch.cat([prompt, ids[:n]])[None]).logits[0, len(prompt) - 1 : -1]
        found = logits.log_softmax(-1).gather(1, ids[:n, None])[:, 0]
        out.append(torch.nn.functional.pad(found, (0, len(ids) - n)))
    return torch.stack(out), dict(lm.named_parameters())


def whole(batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows of micro-batches in the order in which they were sampled."""
    order = torch.cat([b["polytheory_row"] for b in batches]).argsort()
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "polytheory_row")
    rows = {name: torch.cat([b[name] for b in batches])[order] for name in names}
    return {**rows, "mask": rows["completion_mask"].bool()}


def check_run(folder: Any, run: Any, reference: Any, reward: Any = score) -> None:
    """Train; loss and gradient of every step are those of the composition of the reference room, else `AssertionError`."""
    check(folder, run.args, *recorded(run), reference, reward)


def check(
    folder: Any,
    args: Any,
    steps: Steps,
    batches: list[dict[str, Any]],
    losses: list[float],
    reference: Any,
    reward: Any,
) -> None:
    """As `check_run`, of what was recorded."""
    memory: dict[str, Any] = {}
    reference = replace(
        reference, prompts=args.generation_batch_size // args.num_generations, group_size=args.num_generations,
        max_length=args.max_completion_length,
    )  # fmt: skip
    start = {name: p.detach().clone() for name, p in model(folder).named_parameters()}
    per_step, per_generation = args.gradient_accumulation_steps, args.steps_per_generation
    updates = per_generation // per_step
    assert len(steps.gradients) == args.max_steps
    assert len(batches) == args.max_steps * per_step
    for generation in range(0, args.max_steps, updates * args.num_iterations):
        rows = whole(batches[generation * per_step : generation * per_step + per_generation])
        with torch.no_grad():
            old = log_probs(folder, steps.weights[generation], rows)[0].numpy()
            ref = log_probs(folder, start, rows)[0].numpy()
        prompts = TOKENIZER.batch_decode(rows["prompt_ids"], skip_special_tokens=True)
        texts = TOKENIZER.batch_decode(rows["completion_ids"], skip_special_tokens=True)
        group = np.unique([prompts.index(p) for p in prompts], return_inverse=True)[1]
        place = np.arange(len(group))
        columns = {
            "mask": rows["mask"].numpy(), "score": np.array([reward(text) for text in texts]), "group": group,
            "log_probs_old": old, "log_probs_ref": ref, "row": place,
        }  # fmt: skip
        key = Key(args.seed, reference.name or "trl", generation)
        columns = reference.annotated(columns, key, row_ids(np.zeros_like(place), place), place)
        pairs_of = [use for use in reference.recipe() if use.part == "all_pairs"]
        columns, memory = reference.prepare(columns, memory)
        for step in range(generation, min(generation + updates * args.num_iterations, args.max_steps)):
            window = batches[step * per_step : (step + 1) * per_step]
            own = np.isin(columns["row"], torch.cat([b["polytheory_row"] for b in window]).numpy())
            taken = {name: x[own] for name, x in columns.items() if name != "pairs"}
            if pairs_of:
                taken = replace_pairs(taken)
            now, parameters = log_probs(folder, steps.weights[step], {n: x[taken["row"]] for n, x in rows.items()})
            taken["log_probs"] = now.detach().numpy()
            loss, slopes = evaluate(
                taken, reference.recipe(), normalisation=reference.normalisation, max_length=reference.max_length,
                counts=Counts.of(taken),
            )  # fmt: skip
            pull = torch.from_numpy(np.where(taken["mask"], slopes["log_probs"], 0.0))
            gradient = torch.autograd.grad((now * pull).sum(), list(parameters.values()))
            # the loss moves by its slopes times what the current, old and reference log-probs are off by
            allowed = 3 * LOG_PROB * (1 + np.abs(slopes["log_probs"]).sum())
            assert abs(sum(losses[step * per_step : (step + 1) * per_step]) - loss) <= allowed
            # slopes change by as much relative to their size, once for every token of a sequence
            allowed = 3 * rows["mask"].shape[1] * LOG_PROB * (1 + max(float(g.abs().max()) for g in gradient))
            for name, g in zip(parameters, gradient, strict=True):
                off = float((steps.gradients[step][name] - g).abs().max())
                assert off <= allowed, f"step {step}: gradient of {name} is off by {off}"


def replace_pairs(columns: dict[str, Any]) -> dict[str, Any]:
    """Every pair of rows of one group, by looking at all pairs of rows."""
    group = columns["group"]
    pairs = [(i, j) for i in range(len(group)) for j in range(i + 1, len(group)) if group[i] == group[j]]
    return {**columns, "pairs": np.array(pairs)}


def joined(ranks: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The micro-batches that the ranks trained on at once as one, padded on TRL's sides."""
    out = {}
    for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "polytheory_row"):
        pieces = [batch[name] for batch in ranks]
        if pieces[0].ndim == 2:
            wide = max(x.shape[1] for x in pieces)
            left = name.startswith("prompt")
            pad = [(wide - x.shape[1], 0) if left else (0, wide - x.shape[1]) for x in pieces]
            pieces = [torch.nn.functional.pad(x, p) for x, p in zip(pieces, pad, strict=True)]
        out[name] = torch.cat(pieces)
    return out


def two_ranks(folder: Path) -> None:
    """One of two processes that share every group: 2 prompts x 4 completions, 2 rows of a micro-batch on each rank."""
    torch.set_num_threads(1)
    ours = {"normalisation": "token_mean", "beta": 0.1}
    run = trainer(PolytheoryGRPOTrainer, folder, ours=ours, per_device_train_batch_size=2, max_steps=2)
    steps, batches, losses = recorded(run)
    found = gather_object([(batches, losses)])
    if run.accelerator.is_main_process:
        together = [joined(list(ranks)) for ranks in zip(*(batches for batches, _ in found), strict=True)]
        means = [sum(values) / len(values) for values in zip(*(losses for _, losses in found), strict=True)]
        reference = Grpo(policy=None, normalisation="token_mean", beta=0.1)
        steps.weights, steps.gradients = (
            [{k.removeprefix("module."): x for k, x in own.items()} for own in kept]
            for kept in (steps.weights, steps.gradients)
        )
        check(folder, run.args, steps, together, means, reference, score)
        print("two ranks agree with the reference room")


if __name__ == "__main__":
    two_ranks(Path(sys.argv[1]))
