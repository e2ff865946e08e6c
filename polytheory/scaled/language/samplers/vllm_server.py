"""Sampling from a running ``vllm serve``, on GPUs of its own or on this machine; weights go through a folder.

The server is started apart, for instance::

    VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs --enable-scale-out --tensor-parallel-size 4

``--enable-scale-out`` opens the question that takes and gives token ids, the development mode those about weights, prefix cache
and version; such a server belongs behind a firewall. ``MODEL`` gives the architecture; its weights are replaced before the
first prompt.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from polytheory.errors import PolytheoryError, SamplerError, SettingError, require
from polytheory.scaled.language.sampler import Completions
from polytheory.scaled.language.samplers.rows import check_room, check_rows, completions, request, seeds, unpadded
from polytheory.scaled.language.samplers.weights import Named, fingerprint, named_weights

START = "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out --logprobs-mode processed_logprobs"
PATIENCE = 600.0  # seconds for one answer
CONNECTIONS = 64


class VllmServer:
    """A vLLM server as sampler.

    Weights have a version, the digest of their numbers. Before every batch the server is asked for its version; if it is
    another one (an update, a server that was started again, another trainer), the weights are written to the folder, loaded
    by the server in place, and the prefix cache is emptied. Every answer says by which version it was made, and one of another
    version is an error: no completion of stale weights gets through. With several training processes the first one pushes and
    the others wait.

    Args:
        url: address of the server.
        folder: where weights are handed over, seen by trainer and server alike; "" makes one in the temporary folder.
        rows: most completions asked for at a time, >= 1.
    """

    def __init__(self, url: str = "http://localhost:8000", *, folder: str = "", rows: int = 256):
        self._url, self._rows, self._given = url.rstrip("/"), rows, folder
        self._folder: Path | None = None
        self._pushes = 0
        self._checked = False

    @property
    def pushes(self) -> int:
        """How often weights were pushed."""
        return self._pushes

    def complete(self, model, prompts, prompt_mask, row_id, key, longest, *, eos, temperature) -> Completions:
        """As `Sampler.complete`. Raises `SamplerError` when the server does not answer, refuses, or has other weights."""
        each = check_rows(prompts, row_id, temperature)
        version, texts = self.refresh(model), unpadded(prompts, prompt_mask, each)
        check_room(texts, longest, self._room, "raise its --max-model-len, or lower completion_length")
        bodies = [
            {"token_ids": ids, "sampling_params": request(seed, longest, eos, temperature)}
            for ids, seed in zip(texts, seeds(key, row_id), strict=True)
        ]
        with ThreadPoolExecutor(min(self._rows, CONNECTIONS, len(bodies))) as pool:
            found = list(pool.map(lambda body: self._ask("/inference/v1/generate", body)["choices"][0], bodies))
        versions = {span["version"] for choice in found for span in choice["weight_versions"] or ()}
        if versions != {version}:
            raise SamplerError(
                f"the server at {self._url} answered with weights of another version; one trainer to a server, please"
            )
        tokens = [choice["token_ids"] for choice in found]
        log_probs = [[x["logprob"] for x in choice["logprobs"]["content"]] for choice in found]
        return completions(tokens, log_probs, eos, prompts.device)

    def refresh(self, model: Any) -> str:
        """Push the weights unless the server has them; their version. Every training process calls it."""
        weights = named_weights(model)
        together = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
        told: list[str | None] = [None, None]  # the version, or what failed
        if not together or torch.distributed.get_rank() == 0:  # of sharded weights only this one has the numbers
            told[0] = hashlib.sha256(repr(fingerprint(weights)).encode()).hexdigest()[:16]
            try:
                self._check()
                if self._ask("/weight_info")["weight_version"] != told[0]:
                    self.push(weights, told[0], model.config)
            except PolytheoryError as error:
                if not together:
                    raise
                told[1] = str(error)
        if together:
            torch.distributed.broadcast_object_list(told, src=0)  # the others wait for the push, and hear how it went
        if told[0] is None or told[1] is not None:
            raise SamplerError(told[1] or "")
        self._check()
        return told[0]

    def push(self, weights: Named, version: str, config: Any) -> None:
        """Hand over weights, whatever the server has, and name them; the prefix cache of the old ones is emptied."""
        place = self._write(weights, version, config)
        self._ask("/update_weight_version", {"new_version": "in between"})  # should this fail half-way
        self._ask("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(place)}})
        if not self._ask("/reset_prefix_cache", {})["success"]:
            raise SamplerError(
                f"the server at {self._url} keeps the prefix cache of old weights: it still has requests; wait and try again"
            )
        self._ask("/update_weight_version", {"new_version": version})
        shutil.rmtree(place)
        self._pushes += 1

    def close(self) -> None:
        """The server stays as it is; the folder made here goes."""
        if self._folder is not None and not self._given:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self._checked = None, False

    def _write(self, weights: Named, version: str, config: Any) -> Path:
        """The weights as transformers writes them, in a folder of their own that is there wholly or not at all."""
        save_file = require("safetensors.torch", "lm").save_file
        try:
            if self._folder is None:
                self._folder = Path(self._given or tempfile.mkdtemp(prefix="polytheory-weights-")).absolute()
                self._folder.mkdir(parents=True, exist_ok=True)
            place = self._folder / version
            temp = Path(tempfile.mkdtemp(prefix=f"{version}-", dir=self._folder))
            temp.chmod(0o755)  # the server may be another user
            config.save_pretrained(temp)
            # copies: tied weights share their memory, which the format refuses
            save_file({k: x.to("cpu", copy=True).contiguous() for k, x in weights.items()}, temp / "model.safetensors")
            if place.exists():  # left by a run that was killed
                shutil.rmtree(place)
            os.replace(temp, place)
        except OSError as error:
            raise SamplerError(f"cannot write weights to {self._folder}: {error.strerror or error}") from error
        return place

    def _check(self) -> None:
        """Raise `SettingError` for a server that would answer with other numbers."""
        if self._checked:
            return
        told = self._ask("/server_info?config_format=json")
        mode = _find(told, "logprobs_mode")
        if mode != "processed_logprobs":
            raise SettingError(
                f"the server at {self._url} gives {mode}, which are not of the law that is sampled; start it with "
                "--logprobs-mode processed_logprobs"
            )
        self._room = int(_find(told, "max_model_len"))
        self._checked = True

    def _ask(self, path: str, body: Any = None) -> Any:
        """One question; the parsed answer."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise SamplerError(
                    f"the server at {self._url} does not know {path.partition('?')[0]}; start it with {START}"
                ) from error
            raise SamplerError(f"the server at {self._url} refused {path}: {_said(error)}") from error
        except OSError as error:
            why = getattr(error, "reason", None) or error
            raise SamplerError(f"no vLLM server answers at {self._url} ({why}); start one with {START}") from error
        return json.loads(text) if text else None


def _said(error: urllib.error.HTTPError) -> str:
    """One line of what a server says about an error."""
    text = error.read().decode(errors="replace")
    try:
        found = json.loads(text)
        text = _find(found, "message") or _find(found, "detail") or text
    except ValueError:
        pass  # not JSON: the text itself
    return f"{error.code} {str(text).strip().partition(chr(10))[0][:300]}"


def _find(tree: Any, name: str) -> Any:
    """The first value of that name in nested JSON."""
    if isinstance(tree, dict):
        if name in tree:
            return tree[name]
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            found = _find(item, name)
            if found is not None:
                return found
    return None
