"""The two trainers that `benchmarks.training` compares, set to the same work: same model, prompts, rewards, updates, dtype.

A step is one batch of completions and the optimiser updates made on it: two sweeps over two mini-batches, clipped surrogate,
mean over tokens, AdamW, no KL term. Both call the same reward function. With ``replay`` both get the same completions from a
list instead of sampling, so that all that is left is learning: rewards, advantages, log-probs, loss, backward, optimiser.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch

GROUP, SWEEPS, MINI = 8, 2, 2


@dataclass(frozen=True)
class Work:
    """One setting. Fields: ``size`` of the model, see `SIZES`; ``prompts`` a step, ``length`` of completions; ``dtype``;
    ``device``; ``sampler`` "own" (each library's default), "generate" (transformers' for both) or "replay"."""

    size: str = "tiny"
    prompts: int = 64
    length: int = 7
    dtype: str = "float32"
    device: str = "cpu"
    sampler: str = "own"

    @property
    def rows(self) -> int:
        """Completions of a step."""
        return self.prompts * GROUP


# config class and settings; random weights, nothing is downloaded
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "0.5b": {
        "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "0.5b-shape": {  # the same code path in miniature, for machines without a GPU
        "vocab_size": 512, "hidden_size": 56, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
}  # fmt: skip


def model_of(work: Work) -> tuple[Any, Any]:
    """Model and tokenizer: the transformer of the embedded task, or a Qwen2 of the size."""
    from polytheory.scaled.language.tiny import character_tokenizer, tiny_model

    tokenizer = character_tokenizer()
    if work.size == "tiny":
        model = tiny_model(len(tokenizer), seed=0)
    else:
        import transformers

        config = transformers.Qwen2Config(
            **SIZES[work.size], max_position_embeddings=4096, pad_token_id=0, bos_token_id=None, eos_token_id=1
        )
        with torch.device(work.device):
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, work.dtype))
    return model.to(work.device, getattr(torch, work.dtype)), tokenizer


def data_of(work: Work, steps: int) -> dict[str, list[str]]:
    """Prompts of the sorting task."""
    from polytheory.models.text.tasks import task

    return task("sort").rows(max(work.prompts * steps, 64))


def reward(completions: list[str], answer: list[str], **unused: Any) -> list[float]:
    """Share of the answer's characters that stand at their places."""
    return [sum(x == y for x, y in zip(c, a, strict=False)) / len(a) for c, a in zip(completions, answer, strict=True)]


def replayed(work: Work, call: int) -> tuple[list[list[int]], torch.Tensor, torch.Tensor]:
    """Completions of a step as lists and as padded ids and mask: digits, lengths from half to all of the room."""
    generator = np.random.default_rng(call)
    lengths = generator.integers(max(1, work.length // 2), work.length + 1, work.rows)
    lengths[0] = work.length
    ids = torch.from_numpy(generator.integers(2, 12, (work.rows, work.length)))
    mask = torch.arange(work.length) < torch.from_numpy(lengths)[:, None]
    return [row[keep].tolist() for row, keep in zip(ids, mask, strict=True)], torch.where(mask, ids, 0), mask


class Clock:
    """Seconds between calls of `lap`, and those inside of `sampling`: CPU time of the process, or the wall's with a GPU."""

    def __init__(self, device: str):
        self.device, self.laps, self.inside = device, [], []
        self.last, self.sampled = 0.0, 0.0

    def now(self) -> float:
        """Seconds, all work done."""
        if self.device != "cuda":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def start(self) -> None:
        """The first lap begins."""
        self.last, self.sampled = self.now(), 0.0

    def lap(self) -> None:
        """A step has ended."""
        now = self.now()
        self.laps.append(now - self.last)
        self.inside.append(self.sampled)
        self.last, self.sampled = now, 0.0

    def sampling(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` with its time counted."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            found = function(*args, **kwargs)
            self.sampled += self.now() - start
            return found

        return timed


def ours(work: Work, steps: int, clock: Clock, begin: Callable[[], None]) -> int:
    """`Finetune` with GRPO for ``steps`` steps; completion tokens of them. ``begin`` is called before the first."""
    from polytheory.access.language import Prompts, WeightedReward
    from polytheory.run import run
    from polytheory.scaled.language.finetune import Finetune
    from polytheory.scaled.language.optimiser import AdamW
    from polytheory.scaled.language.policy import CausalPolicy
    from polytheory.scaled.language.sampler import Completions
    from polytheory.scaled.language.samplers.base import Cached, Sampling
    from polytheory.scaled.posttraining.grpo import Grpo

    class Replay(Cached):
        calls = 0

        def complete(self, model: Any, prompts: Any, *rest: Any, **settings: Any) -> Completions:
            _, ids, mask = replayed(work, self.calls)
            self.calls += 1
            ids, mask = ids.to(prompts.device), mask.to(prompts.device)
            return Completions(ids, mask, torch.zeros(ids.shape, dtype=torch.float64, device=ids.device), mask.any(1))

    model, tokenizer = model_of(work)
    sampler = (
        Replay()
        if work.sampler == "replay"
        else Sampling("generate" if work.sampler == "generate" else "cached").make()
    )
    sampler.complete = clock.sampling(sampler.complete)
    world = Prompts(
        data_of(work, steps), tokenizer, [WeightedReward("reward", reward)], max_length=work.length, device=work.device
    )
    method = Grpo(
        policy=CausalPolicy(model, tokenizer.eos_token_id, sampler=sampler), prompts=work.prompts, group_size=GROUP,
        updates=SWEEPS, eps_low=0.2, eps_high=0.28, normalisation="token_mean", beta=0.0,
    )  # fmt: skip
    follows = AdamW(5e-4, betas=(0.9, 0.95), warm_up=2, total=SWEEPS * MINI * steps, floor=0.1, max_norm=1.0)
    trainer = Finetune(method, follows, mini_batches=MINI, micro_batch=work.rows // MINI, mismatch_tolerance=None)
    begin()
    clock.start()
    end = run(trainer, world, steps=steps, progress=False, callbacks=[lambda *unused: clock.lap()])
    return int(end.meter.total("transitions"))


def trl(work: Work, steps: int, clock: Clock, begin: Callable[[], None]) -> int:
    """TRL's GRPOTrainer, as `ours`."""
    import datasets
    import transformers

    library = import_module("trl")  # of its own environment
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    class Laps(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            begin()
            clock.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
            if state.global_step % (SWEEPS * MINI) == 0:
                clock.lap()

    model, tokenizer = model_of(work)
    with tempfile.TemporaryDirectory() as folder:
        settings = library.GRPOConfig(
            output_dir=folder, use_cpu=work.device == "cpu", bf16=work.dtype == "bfloat16", report_to=[], save_strategy="no",
            disable_tqdm=True, gradient_checkpointing=False, dataloader_pin_memory=work.device == "cuda", seed=0,
            per_device_train_batch_size=work.rows // MINI, gradient_accumulation_steps=1, steps_per_generation=MINI,
            num_iterations=SWEEPS, num_generations=GROUP, max_completion_length=work.length, max_steps=SWEEPS * MINI * steps,
            temperature=1.0, beta=0.0, epsilon=0.2, epsilon_high=0.28, loss_type="dapo", scale_rewards="group",
            learning_rate=5e-4, adam_beta1=0.9, adam_beta2=0.95, max_grad_norm=1.0, lr_scheduler_type="cosine", warmup_steps=2,
        )  # fmt: skip
        trainer = library.GRPOTrainer(
            model, reward_funcs=reward, args=settings, train_dataset=datasets.Dataset.from_dict(data_of(work, steps)),
            processing_class=tokenizer, callbacks=[Laps()],
        )  # fmt: skip
        tokens = 0

        def complete(*args: Any, **kwargs: Any) -> Any:
            nonlocal tokens
            if work.sampler == "replay":
                found = replayed(work, len(clock.laps))[0], None
            else:
                found = original(*args, **kwargs)
            tokens += sum(map(len, found[0]))
            return found

        original = trainer._generate_single_turn
        trainer._generate_single_turn = clock.sampling(complete)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return tokens


def harpg(work: Work, steps: int) -> dict[str, list[float]]:
    """Seconds of REINFORCE and HARPG steps in turn, each on a run of its own; the first, without a second batch, left out."""
    from polytheory.access.language import Prompts, WeightedReward
    from polytheory.scaled.language.finetune import Finetune
    from polytheory.scaled.language.optimiser import Harpg, Sgd
    from polytheory.scaled.language.policy import CausalPolicy
    from polytheory.scaled.posttraining.grpo import Grpo

    model, tokenizer = model_of(work)
    world = Prompts(
        data_of(work, steps), tokenizer, [WeightedReward("reward", reward)], max_length=work.length, device=work.device
    )
    method = Grpo(
        policy=CausalPolicy(model, tokenizer.eos_token_id), prompts=work.prompts, group_size=GROUP, advantage="rloo",
        surrogate="reinforce", normalisation="seq_sum", beta=0.0,
    )  # fmt: skip
    follows = {"reinforce": Sgd(1e-3)} | {hvp: Harpg(1e-3, hvp=hvp) for hvp in ("difference", "exact")}
    trainers = {name: Finetune(method, x, mismatch_tolerance=None) for name, x in follows.items()}
    states = {name: x.init(world, 0) for name, x in trainers.items()}
    clock, found = Clock(work.device), {name: [] for name in trainers}
    for _ in range(steps + 1):
        for name, trainer in trainers.items():
            clock.start()
            states[name], _ = trainer.step(states[name], world)
            clock.lap()
            found[name].append(clock.laps[-1])
    return {name: x[1:] for name, x in found.items()}


SUBJECTS: dict[str, Callable[..., int]] = {"ours": ours, "trl": trl}
