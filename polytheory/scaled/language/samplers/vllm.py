"""Sampling with vLLM in this process; weights are pushed in place."""

from __future__ import annotations

import copy
import os
import random
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytheory.errors import SamplerError, SettingError, require
from polytheory.scaled.language.sampler import Completions
from polytheory.scaled.language.samplers.rows import check_room, check_rows, completions, request, seeds, unpadded
from polytheory.scaled.language.samplers.weights import Named, fingerprint, named_weights

_OPEN: weakref.WeakSet[Any] = weakref.WeakSet()  # engines of a process share global state of vLLM: one at a time


class Vllm:
    """A vLLM engine of its own in this process, opened at the first prompt.

    It holds a copy of the weights, in the model's dtype. Every call compares it with the model, and pushes the weights
    when they differ: in place, under the names of transformers, with the output layer also where it is tied. Then the prefix
    cache is emptied, since it was made by the old weights. Log-probs are asked for after the temperature (vLLM's default is
    before). The engine starts with random weights, so that one which a push forgets is noticed at once. A process has one
    engine at a time: opening another closes it, and it opens again when it is asked.

    Args:
        memory: share of the GPU's memory that vLLM may use, in (0, 1]; of the machine's memory on a CPU.
        rows: most completions at a time, >= 1.
        longest: longest prompt and completion together, in tokens; 0 takes the bound of the model's config.

    Raises `MissingExtraError` without vLLM.
    """

    def __init__(self, *, memory: float = 0.3, rows: int = 256, longest: int = 0):
        # private, because a run with other settings of the engine is the same run
        self._memory, self._rows, self._longest = memory, rows, longest
        self._engine: Any = None
        self._shape: tuple[Any, ...] = ()
        self._has: tuple[Any, ...] = ()
        self._pushes = 0
        _library()

    @property
    def pushes(self) -> int:
        """How often weights were pushed."""
        return self._pushes

    def complete(self, model, prompts, prompt_mask, row_id, key, longest, *, eos, temperature) -> Completions:
        """As `Sampler.complete`. Raises `SettingError` for a text that the engine has no room for."""
        each = check_rows(prompts, row_id, temperature)
        with _same_random_numbers(), torch.no_grad():
            self.refresh(model)
            ids = unpadded(prompts, prompt_mask, each)
            check_room(ids, longest, self._room, "raise sampler_length, or lower completion_length")
            parameters = _library().SamplingParams
            asked = [parameters(**request(seed, longest, eos, temperature)) for seed in seeds(key, row_id)]
            answers = self._engine.generate([{"prompt_token_ids": x} for x in ids], asked, use_tqdm=False)
        found = [answer.outputs[0] for answer in answers]
        tokens = [list(x.token_ids) for x in found]
        log_probs = [[step[t].logprob for t, step in zip(x.token_ids, x.logprobs, strict=True)] for x in found]
        return completions(tokens, log_probs, eos, prompts.device)

    def refresh(self, model: Any) -> bool:
        """Push the weights unless the engine has them; whether it did."""
        weights = named_weights(model)
        shape = (str(model.dtype), *((name, tuple(x.shape)) for name, x in weights.items()))
        if self._engine is None or shape != self._shape:
            self.close()
            self._open(model)
            self._shape = shape
        now = fingerprint(weights)
        if now == self._has:
            return False
        self.push(weights)
        self._has = now
        return True

    def push(self, weights: Named) -> None:
        """Hand over weights, whatever the engine has; the prefix cache of the old ones is emptied."""
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(list(weights.items()))})
        if not self._engine.reset_prefix_cache():
            raise SamplerError("vLLM keeps the prefix cache of old weights, requests are still running; end them first")
        self._pushes += 1

    def close(self) -> None:
        """End the engine and give its memory back; the next prompt opens another."""
        if self._engine is None:
            return
        self._engine, engine = None, self._engine
        self._has = ()
        _OPEN.discard(self)
        engine.llm_engine.engine_core.shutdown()
        del engine
        _library("distributed").cleanup_dist_env_and_memory()

    def _open(self, model: Any) -> None:
        check_model(model)
        for other in list(_OPEN):
            other.close()
        config = copy.deepcopy(model.config)
        config.architectures = [
            type(model).__name__
        ]  # unset in a model made here; vLLM would then guess another use of it
        self._room = self._longest or int(config.get_text_config().max_position_embeddings)
        folder = Path(tempfile.mkdtemp(prefix="polytheory-vllm-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        config.save_pretrained(folder)
        try:
            with _set_back():
                self._engine = _library().LLM(
                    model=str(folder), runner="generate", skip_tokenizer_init=True, load_format="dummy",
                    generation_config="vllm", dtype=str(model.dtype).removeprefix("torch."), max_model_len=self._room,
                    max_num_seqs=self._rows, logprobs_mode="processed_logprobs", seed=0, disable_log_stats=True,
                    **self._where(model),
                )  # fmt: skip
        except Exception as error:  # vLLM raises whatever its parts raise
            _library("distributed").cleanup_dist_env_and_memory()
            raise SettingError(f"vLLM cannot open this model: {reason(error)}") from error
        _OPEN.add(self)

    def _where(self, model: Any) -> dict[str, Any]:
        """Options that hang on the kind of machine."""
        if model.device.type != "cpu":
            return {"gpu_memory_utilization": self._memory}
        # vLLM would take its share of the whole machine for the cache; as much as all rows can fill is enough
        c = model.config.get_text_config()
        width = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        width *= 2 * c.num_hidden_layers * head_dimension(c) * model.dtype.itemsize
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        size = min(int(self._memory * total), width * self._rows * (self._room + 128) + 2**26)
        return {"kv_cache_memory_bytes": size, "enforce_eager": True}


def head_dimension(config: Any) -> int:
    """Width of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def check_model(model: Any) -> None:
    """Raise `SettingError` for what vLLM cannot run beside the trainer, before it starts."""
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if processes > 1:
        raise SettingError(
            f"sampler = 'vllm' in {processes} processes; the engine serves one, use sampler = 'vllm-server'"
        )
    if model.device.type == "cpu":
        known = require("vllm.v1.attention.backends.cpu_attn", "vllm").CPUAttentionBackend.get_supported_head_sizes()
        width = head_dimension(model.config.get_text_config())
        if width not in known:
            raise SettingError(
                f"the model's attention heads are {width} wide; vLLM on a CPU takes {', '.join(map(str, known))}: use "
                "sampler = 'cached', or a model with other heads"
            )


def reason(error: BaseException) -> str:
    """One line of an error that may have many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _library(part: str = "") -> Any:
    """vLLM, or a part of it, with the engine in this process and quiet; what the user has set wins."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # the threads are the trainer's too
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return require(f"vllm.{part}" if part else "vllm", "vllm")


@contextmanager
def _set_back() -> Iterator[None]:
    """Opening an engine seeds every generator and takes over torch's threads: both are the trainer's."""
    threads, set_threads = torch.get_num_threads(), torch.set_num_threads
    with _same_random_numbers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_num_threads = set_threads
            torch.set_num_threads(threads)


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Global generators come out as they went in, so that a step after a resume sees what it saw without."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])  # noqa: NPY002
