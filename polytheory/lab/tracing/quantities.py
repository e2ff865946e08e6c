"""What passes through a call, as named arrays whose axes have names: ``q [S, A]``, ``f [H, S, A]``, ``ratio [n, t]``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

LARGEST = 2**18  # entries of an array that is kept
_SHAPE = re.compile(r"\[[^\[\],]+,\s*[\"']([^\"']*)[\"']\]")  # the axes in Float[np.ndarray, "S A"]
# By size alone, where an annotation says nothing; the first that fits counts.
_GUESSES = (
    ("H", "S", "A"), ("S", "A", "S'"), ("n", "t"), ("n",), ("H", "S"), ("S", "A"), ("n", "A"), ("n", "d"),
    ("H", "S", "A", "S'"),
)  # fmt: skip
_ALIASES = {"Table": "H S A", "Vector": "d"}  # of shapes, in modules that write one often


class Quantity(NamedTuple):
    """A number, text or array at the moment of a call.

    Fields: ``name``; ``axes`` names of the array's axes, such as ("S", "A"); ``value`` a copy; ``key`` identity of the object
    it was copied from, so that one thing under two names is told once.
    """

    name: str
    axes: tuple[str, ...]
    value: Any
    key: int = 0

    def plain(self) -> dict[str, Any]:
        """As data: name, axes, value."""
        return {"name": self.name, "axes": list(self.axes), "value": self.value}


def shapes_in(annotation: Any) -> list[str]:
    """The shapes written in an annotation, in order: ``"tuple[Float[np.ndarray, 'S'], float]"`` has one, "S"."""
    if annotation is None:
        return []
    return [_ALIASES[annotation]] if annotation in _ALIASES else _SHAPE.findall(str(annotation))


def axes_of(shape: str, ndim: int) -> tuple[str, ...] | None:
    """Axis names of an array of ``ndim`` axes from a written shape such as ``"*H S A"``; None where they do not fit."""
    words = shape.split()
    if "..." in words:
        return None
    starred = [i for i, word in enumerate(words) if word.startswith("*")]
    if starred:
        i, more = starred[0], ndim - len(words) + 1
        name = words[i][1:]
        if more < 0:
            return None
        spread = list(name) if more == len(name) else [f"{name}{k}" for k in range(more)] if more > 1 else [name] * more
        words = words[:i] + spread + words[i + 1 :]
    named = tuple(word if word.isidentifier() else "i" for word in words)
    return _distinct(named) if len(words) == ndim else None


def guess(shape: tuple[int, ...], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Axis names from sizes alone; a vector's length says little, only that of a batch is believed."""
    for axes in _GUESSES:
        if tuple(sizes.get(x.rstrip("'")) for x in axes) == shape:
            return axes
    return tuple("" if len(shape) == 1 else "ijklmn"[k] for k in range(len(shape)))


def quantities(
    name: str, x: Any, annotation: Any, sizes: Mapping[str, int], *, depth: int = 0, keep: Any = None
) -> list[Quantity]:
    """Everything in ``x`` that is a number, text or array: fields of plain data and entries of dicts by their own names.

    ``keep`` collects the objects, so that their identities stay theirs.
    """
    if keep is not None:
        keep.append(x)
    if isinstance(x, bool | int | float | str | np.generic):
        return [Quantity(name, (), x.item() if isinstance(x, np.generic) else x)]
    if isinstance(x, np.ndarray) and not x.ndim and x.dtype != object:
        return [Quantity(name, (), x.item())]
    if isinstance(x, np.ndarray):
        return _array(name, x, shapes_in(annotation), sizes)
    if hasattr(x, "toarray"):  # a sparse matrix, small enough to be written out
        return _array(name, x.toarray(), [], sizes) if np.prod(x.shape) <= LARGEST else []
    if depth > 1:
        return []
    more: dict[str, Any] = {"depth": depth + 1, "keep": keep}
    prefix = f"{name}." if name else ""
    if isinstance(x, Mapping):
        own = dict(sizes)
        if isinstance(x.get("mask"), np.ndarray) and x["mask"].ndim == 2:  # completions: rows by tokens
            own = {"n": x["mask"].shape[0], "t": x["mask"].shape[1], **_but(sizes, x["mask"].shape)}
        return [q for key, value in x.items() for q in quantities(f"{prefix}{key}", value, None, own, **more)]
    if _is_plain_data(x):
        told = _annotations(type(x))
        return [
            q for field in _fields(x)
            for q in quantities(f"{prefix}{field}", getattr(x, field), told.get(field), sizes, **more)
        ]  # fmt: skip
    if isinstance(x, tuple | list):
        if x and all(isinstance(y, bool | int | float) for y in x):
            return [Quantity(name, ("k",), np.array(x), id(x))]
        found, out = shapes_in(annotation), []
        for i, y in enumerate(x):
            shape = f'[x, "{found.pop(0)}"]' if found and isinstance(y, np.ndarray) else None
            out += quantities(f"{name}[{i}]", y, shape, sizes, **more)
        return out
    return []


def _but(sizes: Mapping[str, int], taken: tuple[int, ...]) -> dict[str, int]:
    """The sizes without those that a batch of this shape makes ambiguous."""
    return {name: size for name, size in sizes.items() if name not in ("n", "t") and size not in taken}


def _array(name: str, x: np.ndarray, shapes: list[str], sizes: Mapping[str, int]) -> list[Quantity]:
    if x.size > LARGEST or x.dtype == object:
        return []
    axes = next((found for shape in shapes if (found := axes_of(shape, x.ndim)) is not None), None)
    return [Quantity(name, guess(x.shape, sizes) if axes is None else axes, x.copy(), id(x))]


def _distinct(words: tuple[str, ...]) -> tuple[str, ...]:
    """The second S of ``S A S`` is the next state: S'."""
    out: list[str] = []
    for word in words:
        while word in out:
            word += "'"
        out.append(word)
    return tuple(out)


def _is_plain_data(x: Any) -> bool:
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return True
    opaque = hasattr(x, "requires") or hasattr(x, "successors") or hasattr(x, "grants")  # methods, models, accesses
    return dataclasses.is_dataclass(x) and not isinstance(x, type) and not opaque


def _fields(x: Any) -> tuple[str, ...]:
    named = getattr(x, "_fields", None)
    return named or tuple(f.name for f in dataclasses.fields(x) if not f.name.startswith("_"))


def _annotations(kind: type) -> dict[str, Any]:
    return {k: v for base in reversed(kind.__mro__) for k, v in vars(base).get("__annotations__", {}).items()}
