"""Short texts of objects that hold arrays: what it is, its shapes, its numbers; never a page of digits."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any

FEW = 8  # numbers, or items, that are written out
WIDE = 80  # characters of anything else


def compact(self: Any) -> str:
    """``Name(field=..., ...)`` of a dataclass, arrays of more than `FEW` numbers as ``float64[17, 4]``.

    Made to be a dataclass's ``__repr__``; works for NumPy arrays and torch tensors alike.
    """
    if is_dataclass(self) and not isinstance(self, type):
        inner = ", ".join(f"{f.name}={compact(getattr(self, f.name))}" for f in fields(self) if f.repr)
        return f"{type(self).__name__}({inner})"
    if hasattr(self, "dtype") and hasattr(self, "shape"):
        return _array(self)
    if isinstance(self, dict):
        return "{" + _items([f"{k!r}: {compact(v)}" for k, v in self.items()]) + "}"
    if isinstance(self, tuple) and not hasattr(self, "_fields"):
        return f"({_items([compact(y) for y in self])}{',' if len(self) == 1 else ''})"
    if isinstance(self, list):
        return f"[{_items([compact(y) for y in self])}]"
    if isinstance(self, FunctionType | type):
        return self.__qualname__
    if isinstance(self, float):
        return f"{self:.6g}"
    text = " ".join(repr(self).split())
    return text if len(text) <= WIDE else text[: WIDE - 3] + "..."


def _array(x: Any) -> str:
    shape = list(x.shape)
    count = 1
    for n in shape:
        count *= n
    if count > FEW:
        return f"{str(x.dtype).removeprefix('torch.')}{shape}"
    return _numbers(x.tolist())


def _numbers(x: Any) -> str:
    if isinstance(x, list):
        return "[" + ", ".join(map(_numbers, x)) + "]"
    return f"{x:.6g}" if isinstance(x, float) else str(x)


def _items(texts: list[str]) -> str:
    more = len(texts) - FEW
    return ", ".join(texts if more <= 0 else [*texts[:FEW], f"... {more} more"])
