"""Checkpoints: a folder per step, written aside and published by one atomic rename of the ``latest`` pointer.

::

    DIR/latest                       name of the newest complete checkpoint
    DIR/step-000000000300/           manifest.json, state.json, arrays.npz, tensors.safetensors (torch tensors only)
    DIR/history.jsonl                rows, append-only; the manifest keeps how far they belong to the checkpoint

Files name no code and hold no pickles. Every file's sha256 stands in the manifest, the manifest's own inside it, so
that a damaged folder is an error and never a wrong state.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from polytheory import __version__
from polytheory._trees import Packed, is_tensor, pack, tensor_bytes
from polytheory.errors import CheckpointError, SettingError, StorageError, require

FORMAT = 1
KEEP = 2
LATEST, MANIFEST, STATE, ARRAYS, TENSORS = "latest", "manifest.json", "state.json", "arrays.npz", "tensors.safetensors"
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Every:
    """How often to save: after ``steps`` steps or ``seconds`` seconds."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str | int) -> Every:
        """Read "30s", "5m", "2h", "100 steps" or 100 (steps). Raises `SettingError` on anything else."""
        given = f"{text} steps" if _is_int(text) else str(text)
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|steps?)\s*", given)
        if match:
            number, unit = match.groups()
            if unit in _UNITS:
                return cls(seconds=float(number) * _UNITS[unit])
            if number.isdigit() and int(number) > 0:
                return cls(steps=int(number))
        raise SettingError(f"every = {text!r}; use a time such as '30s', '5m', '2h', or steps such as '100 steps'")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One complete checkpoint as read back: the manifest, and the packed ``{"state", "access"}`` tree."""

    folder: Path
    manifest: dict[str, Any]
    packed: Packed

    def check_identity(self, identity: dict[str, Any]) -> None:
        """Raise `CheckpointError` naming the first thing in which the checkpoint's run differs from this one."""
        saved = self.manifest["identity"]
        for what, now in identity.items():
            before = saved.get(what)
            if before == now:
                continue
            if isinstance(now, dict) and isinstance(before, dict):
                key = next(k for k in {**before, **now} if before.get(k) != now.get(k))
                what, before, now = f"{what} {key}", before.get(key), now.get(key)
            before, now = _where_apart(str(before), str(now))
            raise CheckpointError(
                f"the checkpoint in {self.folder} belongs to another run: its {what} is {before}, this run's is {now}; "
                "use another folder, or the setting of then"
            )


def _where_apart(a: str, b: str, context: int = 30, limit: int = 120) -> tuple[str, str]:
    """Two texts, of long ones only where they differ: a network's setting names every weight."""
    if max(len(a), len(b)) <= limit:
        return a, b
    first = _alike(a, b)
    last = min(_alike(a[::-1], b[::-1]), len(a) - first, len(b) - first)
    return _cut(a, first - context, len(a) - last + context, limit), _cut(
        b, first - context, len(b) - last + context, limit
    )


def _alike(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _cut(text: str, start: int, stop: int, limit: int) -> str:
    stop = min(stop, start + limit)
    return ("..." if start > 0 else "") + text[max(start, 0) : stop] + ("..." if stop < len(text) else "")


def describe(x: Any) -> dict[str, str]:
    """Settings (fields of a dataclass, else public attributes) as short texts: what identifies a run.

    A field with the metadata ``names_run`` False is left out: a run may go on with another value.
    """
    if is_dataclass(x):
        return {f.name: _text(getattr(x, f.name)) for f in fields(x) if f.metadata.get("names_run", True)}
    cached = {name for name in vars(x) if isinstance(getattr(type(x), name, None), cached_property)}
    return {k: _text(v) for k, v in vars(x).items() if not k.startswith("_") and k not in cached}


def save(root: Path, step: int, tree: Any, manifest: dict[str, Any], known: dict[str, type]) -> Path:
    """Write a checkpoint and publish it; older ones beyond the last two are removed.

    Args:
        root: checkpoint folder; made when absent.
        step: steps completed.
        tree: ``{"state": ..., "access": ...}``.
        manifest: JSON-able facts about the run.
        known: `polytheory._trees.layout` of the freshly made tree.

    Raises `CheckpointError` when the tree is not plain data, `StorageError` when the disk refuses: what was saved before
    is as it was.
    """
    packed = pack(tree, known=known, name="")
    name = f"step-{step:012d}"
    temp = root / f"tmp-{name}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob("tmp-*"):
            shutil.rmtree(left)
        temp.mkdir()
        (temp / STATE).write_bytes(json.dumps(packed.tree, allow_nan=False).encode())
        if packed.arrays:
            named: dict[str, Any] = {**packed.arrays}
            with (temp / ARRAYS).open("wb") as file:
                np.savez(file, **named)  # pack refuses object arrays: no pickles
        if packed.tensors:
            _save_tensors(packed.tensors, temp / TENSORS)
        digests = {path.name: _digest(path) for path in sorted(temp.iterdir())}
        body = {"format": FORMAT, "polytheory": __version__, "step": step, **manifest, "files": digests}
        signed = {"body": body, "sha256": _body_digest(body)}
        (temp / MANIFEST).write_bytes(json.dumps(signed, allow_nan=False).encode())
        for path in (*temp.iterdir(), temp):
            _fsync(path)
        if (root / name).exists():  # left by a run that was killed before it published
            shutil.rmtree(root / name)
        os.rename(temp, root / name)
        publish(root, name)
        for old in sorted(p for p in root.glob("step-*") if p.name < name)[: -(KEEP - 1)]:
            shutil.rmtree(old)
    except OSError as error:
        shutil.rmtree(temp, ignore_errors=True)  # a full disk needs the room
        raise StorageError(
            f"cannot write a checkpoint to {root}: {error.strerror or error}; make room, or take another folder"
        ) from error
    return root / name


def _save_tensors(tensors: dict[str, Any], path: Path) -> None:
    failure = require("safetensors", "scaled").SafetensorError
    try:
        require("safetensors.torch", "scaled").save_file({k: x.cpu() for k, x in tensors.items()}, path)
    except failure as error:  # what the disk says reaches us as text
        raise OSError(str(error)) from error


def publish(root: Path, name: str) -> None:
    """Point ``latest`` at the checkpoint of that name, atomically."""
    temp = root / f"{LATEST}.tmp"
    temp.write_bytes(name.encode())
    _fsync(temp)
    os.replace(temp, root / LATEST)
    _fsync(root)


def holds_checkpoint(root: Path) -> bool:
    """True when the folder has a published checkpoint (or is one)."""
    return (root / LATEST).exists() or (root / MANIFEST).exists()


def load(path: Path) -> Checkpoint:
    """Read the latest checkpoint of a folder, or the one that the folder itself is.

    Raises `CheckpointError` when there is none, or any file is missing or damaged.
    """
    if not holds_checkpoint(path):
        raise CheckpointError(f"{path} holds no checkpoint; leave out resume to start from the beginning")
    folder = path if (path / MANIFEST).exists() else path / _read(path / LATEST).decode(errors="replace").strip()
    try:
        outer = json.loads(_read(folder / MANIFEST))
        body = outer["body"]
        if outer["sha256"] != _body_digest(body):
            raise _damaged(folder, MANIFEST)
        if body["format"] != FORMAT:
            raise CheckpointError(f"{folder} has format {body['format']}; this version reads format {FORMAT}")
        for name, digest in body["files"].items():
            if not (folder / name).exists() or _digest(folder / name) != digest:
                raise _damaged(folder, name)
        return Checkpoint(folder, body, Packed(json.loads(_read(folder / STATE)), *_read_arrays(folder, body["files"])))
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _damaged(folder, MANIFEST) from error


def _read_arrays(folder: Path, files: dict[str, str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays: dict[str, np.ndarray] = {}
    if ARRAYS in files:
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    tensors = require("safetensors.torch", "scaled").load_file(folder / TENSORS) if TENSORS in files else {}
    return arrays, tensors


def _damaged(folder: Path, name: str) -> CheckpointError:
    others = sorted(p for p in folder.parent.glob("step-*") if p != folder)
    way_out = f"resume from {others[-1]}" if others else "remove the folder to start again"
    return CheckpointError(f"the checkpoint {folder} is damaged ({name} is not what was saved); {way_out}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _body_digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _is_int(x: object) -> bool:
    return isinstance(x, int | np.integer) and not isinstance(x, bool)


def _text(x: Any) -> str:
    """Short text of a setting: arrays and tensors by their digest, code by its name, objects by their public data.

    Modules count by the shapes of their parameters: fresh weights are no other run, the trained ones are in the state.
    """
    x = x.item() if isinstance(x, np.generic) else x
    if x is None or isinstance(x, bool | int | float | str | Enum):
        return repr(x)
    if callable(x) and hasattr(x, "__qualname__"):
        return f"{x.__module__}.{x.__qualname__}"
    kind = type(x).__qualname__
    if isinstance(x, np.ndarray) or is_tensor(x):
        data = x.tobytes() if isinstance(x, np.ndarray) else tensor_bytes(x.detach())
        return f"{kind} {x.dtype}{list(x.shape)} with sha256 {hashlib.sha256(data).hexdigest()[:16]}"
    if isinstance(x, list | tuple | set | frozenset):
        parts = [_text(item) for item in x]
        return f"{kind}({', '.join(sorted(parts) if isinstance(x, set | frozenset) else parts)})"
    if isinstance(x, dict):
        return f"{kind}({', '.join(f'{k!r}: {_text(v)}' for k, v in x.items())})"
    if hasattr(x, "state_dict"):
        shapes = [f"{k}: {getattr(v, 'dtype', '')}{list(getattr(v, 'shape', ()))}" for k, v in x.state_dict().items()]
        return f"{kind}({', '.join(shapes)})"
    if is_dataclass(x) or hasattr(x, "__dict__"):
        return f"{kind}({', '.join(f'{k}={v}' for k, v in describe(x).items())})"
    return f"{type(x).__module__}.{kind}"
