"""From a recipe to a trained model: data, model, warm start, reinforcement learning, evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytheory.access import Key, Requests
from polytheory.access.language import Demonstrations, Prompts
from polytheory.errors import SettingError
from polytheory.history import History
from polytheory.lab.training import data as datas
from polytheory.lab.training.models import count, ends, limit, make_model
from polytheory.lab.training.monitors import Signal, every
from polytheory.lab.training.probe import Probe
from polytheory.lab.training.recipe import OPTIMISERS, Recipe, Start
from polytheory.lab.training.reporters import Reports
from polytheory.run import Run, run
from polytheory.scaled.language import ranks as processes
from polytheory.scaled.language.adapters import without_dropout
from polytheory.scaled.language.design import DesignFinetune
from polytheory.scaled.language.finetune import Finetune, reads
from polytheory.scaled.language.optimiser import AdamW
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.sft import Sft
from polytheory.scaled.language.sharding import gathered, whole

SAMPLES = 6  # completions shown before and after
LARGE_STEP = 1e-4  # from here on AdamW spoils most models that somebody has trained


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Mean score on the held-out prompts at the training temperature and greedily, and some completions as
    (prompt, completion, score)."""

    sampled: float
    greedy: float
    samples: Sequence[tuple[str, str, float]]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training leaves behind: the recipe, the policies' evaluations, the run, the tokenizer."""

    recipe: Recipe
    before: Evaluation
    after: Evaluation
    run: Run
    tokenizer: Any
    warm_start: History | None

    @property
    def model(self) -> Any:
        """The trained model."""
        return self.run.state.model


def train(
    recipe: Recipe,
    *,
    output: str | Path | None = None,
    callbacks: Sequence[Callable[..., Any]] = (),
    say: Callable[[str], None] = lambda text: None,
    progress: bool | None = None,
) -> Trained:
    """Train as the recipe says.

    Args:
        recipe: from `recipe.read`.
        output: folder for checkpoints and history; the same call continues from there. None keeps nothing.
        callbacks: called after each step of reinforcement learning, see `polytheory.run.run`.
        say: told what happens, one line each.
        progress: of `run`.

    Raises what its parts raise: `SettingError`, `ColumnError`, `MismatchError`, `DivergedError`, `CheckpointError`.
    """
    out, start = recipe.output, recipe.start
    if out.steps < 1:
        raise SettingError(f"steps = {out.steps}; train at least one step")
    ranks = processes.join(start.device, shard=start.shard)
    device = str(ranks.device)
    if device == "cpu":
        torch.set_num_threads(1)  # the tensors are small: more threads only wait for each other
    # a bad setting is an error before any work
    algorithm = make_algorithm(recipe, CausalPolicy(None, 0, start.temperature))
    folder = None if output is None else Path(output)
    with ranks.together():
        reports = Reports(out.report_to if ranks.rank == 0 else (), folder, recipe.flat())
    with reports:
        return _train(recipe, folder, ranks, algorithm, callbacks, reports, say, progress)


def _train(
    recipe: Recipe,
    folder: Path | None,
    ranks: processes.Ranks,
    algorithm: Finetune,
    callbacks: Sequence[Callable[..., Any]],
    reports: Reports,
    say: Callable[[str], None],
    progress: bool | None,
) -> Trained:
    out, start, seed, device = recipe.output, recipe.start, recipe.output.seed, str(ranks.device)
    probe, steps = Probe(recipe), folder and folder / "checkpoints"
    signal = Signal(out.patience, bundles=recipe.method == "riskpo", folder=steps, say=say)
    if out.evaluate_every < 0:
        raise SettingError(f"evaluate_every = {out.evaluate_every}; 0 evaluates at the start and the end only")
    known = datas.load(recipe.problem, seed)
    model, tokenizer = make_model(start, recipe.lora, seed, device)
    several = f"{ranks.world} processes{' with sharded weights' if ranks.sharded else ''}, " if ranks.world > 1 else ""
    say(f"{start.model} model, {count(model)}, {several}{device}; {len(known.train['prompt'])} prompts")
    if getattr(tokenizer, "chat_template", None) and isinstance(known.train["prompt"][0], str):
        say("prompts are texts, given to a chat model as they are; chat=true asks them as a user")
    if start.model != Start.model and (rate := getattr(algorithm.optimiser, "step_size", 0)) > LARGE_STEP:
        say(f"step_size = {rate:g} suits a tiny model; try 1e-6 for a large one, 1e-5 with lora_rank=16")
    worlds = {
        name: Prompts(
            rows, tokenizer, known.rewards, max_length=known.completion_length,
            max_prompt_length=recipe.problem.prompt_length or None, name=name, device=device,
        )
        for name, rows in (("train", known.train), ("held-out", known.held_out))
    }  # fmt: skip
    room = known.completion_length + max(world.longest_prompt for world in worlds.values())
    if room > limit(model):
        raise SettingError(
            f"a prompt and its completion may have {room} tokens, {start.model} has {limit(model)} positions; lower "
            "completion_length, or leave out long prompts"
        )
    sampler = recipe.sampling.make(room)
    policy = CausalPolicy(model, ends(model, tokenizer), start.temperature, sampler=sampler)
    warm = None
    if start.sft_steps:
        say(f"warm start: {start.sft_steps} supervised steps")
        rows = datas.demonstrations(recipe.problem, known.train, start.demonstrations)
        followed = AdamW(start.sft_step_size, warm_up=start.sft_warm_up)
        end = run(
            Sft(
                policy, followed, start.sft_batch, dropout=recipe.lora.lora_dropout > 0, train_copy=False,
                gradient_checkpointing=recipe.driver.get("gradient_checkpointing", False),
            ),
            Demonstrations(rows, tokenizer, name="demonstrations", device=device),
            steps=start.sft_steps, seed=seed, checkpoint=folder and folder / "warm-start", every=out.every, progress=progress,
        )  # fmt: skip
        warm, policy = end.history, policy.with_model(whole(end.state.model))
    without_dropout(policy.model)
    before = evaluate(policy, worlds["held-out"], seed)
    say(
        f"before: {_percent(before.sampled)} right at temperature {start.temperature:g}, {_percent(before.greedy)} greedily"
    )

    def held_out(state: Any, info: Any, step: int) -> dict[str, float]:
        found = evaluate(policy.with_model(state.model), worlds["held-out"], seed)
        return {"eval_reward": found.sampled, "eval_reward_greedy": found.greedy}

    def probed(state: Any, info: Any, step: int) -> dict[str, float]:
        return probe(float(info.get("true_score", info["reward"])), step)

    end = run(
        make_algorithm(recipe, policy), worlds["train"], steps=out.steps, seed=seed,
        watchers=[every(out.evaluate_every, held_out), every(out.probe_every, probed), reports, signal], callbacks=callbacks,
        checkpoint=folder and folder / "checkpoints", every=out.every, progress=progress,
    )  # fmt: skip
    end.state.model = whole(end.state.model)
    after = evaluate(policy.with_model(end.state.model), worlds["held-out"], seed)
    say(
        f"after: {_percent(after.sampled)} right at temperature {start.temperature:g}, {_percent(after.greedy)} greedily"
    )
    sampler.close()
    return Trained(recipe, before, after, end, tokenizer, warm)


def make_algorithm(recipe: Recipe, policy: CausalPolicy) -> Finetune:
    """The recipe's method on a policy, with the schedule that its number of steps implies."""
    method = recipe.algorithm()(policy=policy, **recipe.settings)
    driver = dict(recipe.driver)
    if recipe.output.decay not in ("cosine", "constant"):
        raise SettingError(f"decay = {recipe.output.decay!r}; use 'cosine' or 'constant'")
    follows = OPTIMISERS[recipe.output.follow](**recipe.optimiser)
    if isinstance(follows, AdamW) and recipe.output.decay == "cosine":
        follows = replace(follows, total=recipe.output.steps * method.updates * driver.get("mini_batches", 1))
    # the starting weights are nobody's but this training's
    driver["train_copy"] = "log_probs_ref" in reads(method)
    if recipe.design.teacher:
        return DesignFinetune(method, follows, design=recipe.design, **driver)
    return Finetune(method, follows, **driver)


def evaluate(policy: CausalPolicy, world: Prompts, seed: int, batch: int = 512) -> Evaluation:
    """One completion of every prompt at the policy's temperature, and the likeliest one. The meter is left as it was.

    Several processes take a share of the prompts each; the first has the completions to show.
    """
    ranks, meter, means = processes.current(), world.meter.state_dict(), []
    batch = min(batch, -(-len(world) // ranks.world))
    pieces = [np.arange(i, min(i + batch, len(world))) for i in range(0, len(world), batch)]
    shown: list[tuple[str, str, float]] = []
    for greedy in (False, True):
        scores = torch.zeros(len(world), dtype=torch.float64, device=world.device)
        with ranks.together(), gathered(policy.model):
            for rows, own in ranks.dealt(pieces):
                requests = Requests(rows, world.spec.horizon or 1, rows)
                traj = world.rollouts(policy, requests, Key(seed, "evaluation", 0), greedy=greedy)
                found: Any = traj.score
                scores[rows[0] : rows[-1] + 1] = found * own
                if not (greedy or shown or rows[0]):
                    texts = world.decode(traj.actions[:SAMPLES], traj.mask[:SAMPLES])
                    shown = [(_shown(world.rows["prompt"][i]), text, float(found[i])) for i, text in enumerate(texts)]
        means.append(sum(ranks.sum(scores).tolist()) / len(world))
    world.meter.load_state_dict(meter)
    return Evaluation(means[0], means[1], shown)


def _shown(prompt: Any) -> str:
    """A prompt for readers: of messages, the last one's text."""
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])


def _percent(x: float) -> str:
    return f"{100 * x:.1f} %" if math.isfinite(x) else "none"
