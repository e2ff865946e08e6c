"""What a verification found, as plain data that goes to JSON and back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polytheory.errors import SettingError
from polytheory.proofs_check.runner import ClaimResult

FORMAT = 1  # of the saved file


@dataclass(frozen=True)
class Series:
    """One line of a figure: points (x, y), and a band from ``low`` to ``high`` where it has one."""

    label: str
    x: list[float]
    y: list[float | None]
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)
    dashed: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line of a figure, such as the exact optimum."""

    label: str
    y: float


@dataclass(frozen=True)
class Curve:
    """A figure: lines over a common axis, with a caption that says what to see."""

    title: str
    x_label: str
    y_label: str
    series: list[Series]
    levels: list[Level] = field(default_factory=list)
    log_x: bool = False
    log_y: bool = False
    caption: str = ""


@dataclass(frozen=True)
class GridValues:
    """Values and policy of a grid-like model; state s lies at (row, column) = divmod(s, columns).

    Fields: ``values`` [rows * columns]; ``policy`` action probabilities of each state; ``arrows`` one label per action;
    ``ends`` marks terminal states, ``goals`` those that are entered with a positive reward, ``starts`` those where
    episodes begin.
    """

    rows: int
    columns: int
    values: list[float]
    policy: list[list[float]]
    arrows: list[str]
    ends: list[bool]
    goals: list[bool]
    starts: list[bool]


@dataclass(frozen=True)
class Lockstep:
    """The comparison of the rooms on one demonstration; ``error`` is None where they are not comparable."""

    error: float | None
    tolerance: float
    steps: int
    replicas: int
    fields: list[str]
    worst: str
    holds: bool


@dataclass(frozen=True)
class DemoRecord:
    """One environment, solved with the reference; ``value`` is the exact return of the policy found."""

    environment: str
    model: str
    S: int
    A: int
    gamma: float
    horizon: int | None
    algorithm: str
    access: str
    settings: dict[str, str]
    steps: int
    status: str
    value: float
    optimum: float
    bound: float | None
    episodes: int
    transitions: int
    backups: int
    curve: Curve
    grid: GridValues | None
    lockstep: Lockstep | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class MethodRecord:
    """Everything about one method; ``errors`` are sentences about what could not be run at all."""

    method: str
    title: str
    paper: str
    url: str
    claims: list[ClaimResult] = field(default_factory=list)
    demos: list[DemoRecord] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainingRecord:
    """The embedded training of a language model: its curve, and rows (how, before, after) of held-out accuracy."""

    title: str
    curve: Curve
    accuracy: list[list[str]]
    seconds: float = 0.0


@dataclass(frozen=True)
class Verification:
    """The saved result of `polytheory verify`; ``software`` names versions, ``training`` is there where one was made."""

    methods: list[MethodRecord]
    software: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    made: str = ""
    training: TrainingRecord | None = None


def dump(found: Any) -> str:
    """A record as JSON text; numbers that are not finite become null."""
    return json.dumps({"format": FORMAT, **_plain(found)}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def load(path: Path) -> Verification:
    """Read what `dump` wrote. Raises `SettingError` when the file is missing or is something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}; run `polytheory verify` first") from error
    except ValueError as error:
        raise SettingError(f"{path} is not JSON ({error}); run `polytheory verify` again") from error
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        raise SettingError(f"{path} was not saved by this version of `polytheory verify`; run it again")
    try:
        return _build(Verification, data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingError(
            f"{path} is damaged ({type(error).__name__}: {error}); run `polytheory verify` again"
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new text and nothing between. Raises `SettingError`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # it may not exist
            beside.unlink()
        raise SettingError(f"cannot write {path}: {error.strerror}; pass another path") from error


def _plain(x: Any) -> Any:
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return {f.name: _plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
    if isinstance(x, dict):
        return {key: _plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _build(kind: Any, data: Any) -> Any:
    """``data`` as the annotated ``kind``: dataclasses by their fields, lists by their entries."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _build(hints[name], value) for name, value in data.items()})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return [_build(inner[0], value) for value in data]
    if origin in (types.UnionType, typing.Union):
        return None if data is None else _build(inner[0], data)
    if kind is float and data is None:  # was not finite
        return math.nan
    return data
