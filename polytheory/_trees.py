"""Trees of plain data to JSON and arrays, and back.

A tree holds arrays (NumPy, torch), numbers, strings, None, tuples, lists, dicts, enums, dataclasses, and objects with
``state_dict`` and ``load_state_dict``. No code is named in what is written: classes come back from a template, which is
a freshly made tree of the same types, so reading a file can never run anything.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from polytheory.errors import CheckpointError

_KINDS = ("fields", "list", "tuple", "dict", "object")  # tags that say nothing to a reader of a path
_ALLOWED = "use arrays, numbers, strings, tuples, lists, dicts, dataclasses, or objects with state_dict/load_state_dict"


@dataclasses.dataclass(eq=False)
class Packed:
    """A tree taken apart: ``tree`` is JSON, ``arrays`` are NumPy, ``tensors`` are torch (detached, contiguous)."""

    tree: Any
    arrays: dict[str, np.ndarray]
    tensors: dict[str, Any]


def is_tensor(x: object) -> bool:
    """True for torch tensors; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def needs_template(x: object) -> bool:
    """True for values whose class cannot be told from the file."""
    special_dict = isinstance(x, dict) and type(x) is not dict
    return _is_record(x) or special_dict or isinstance(x, Enum) or _has_state_dict(x)


def layout(x: Any, path: str = "state") -> dict[str, type]:
    """Where the values stand that a template must provide: path to class."""
    found = {path: type(x)} if needs_template(x) else {}
    for key, child in _children(x, path):
        found |= layout(child, key)
    return found


def pack(x: Any, *, known: Mapping[str, type] | None = None, name: str = "state") -> Packed:
    """Take a tree apart.

    Args:
        x: the tree.
        known: the `layout` of the template that will be there at reading. A value that this template could not provide
            is refused now rather than when it is too late. None allows everything.
        name: how messages call the tree.

    Raises `CheckpointError` naming the entry that is not plain data.
    """
    packer = _Packer(known)
    tree = packer.node(x, name, inside_object=False)
    return Packed(tree, packer.arrays, packer.tensors)


def unpack(packed: Packed, template: Any, *, name: str = "state") -> Any:
    """Put a tree together again, with the classes of ``template`` (whose objects are loaded in place).

    Raises `CheckpointError` where the template does not fit.
    """
    try:
        return _Unpacker(packed).value(packed.tree, template, name)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise CheckpointError(f"the saved {name or 'state'} does not fit this algorithm: {_one_line(error)}") from error


def same_bits(a: Packed, b: Packed) -> str | None:
    """None when two packed trees are equal bit for bit, else what differs."""
    if a.tree != b.tree:
        return _first_difference(a.tree, b.tree, "")
    for key, x in a.arrays.items():
        y = b.arrays[key]
        if (x.dtype, x.shape) != (y.dtype, y.shape) or x.tobytes() != y.tobytes():
            return f"array {_place(a.tree, key)}"
    for key, x in a.tensors.items():
        y = b.tensors[key]
        if (x.dtype, x.shape) != (y.dtype, y.shape) or tensor_bytes(x) != tensor_bytes(y):
            return f"tensor {_place(a.tree, key)}"
    return None


class _Packer:
    def __init__(self, known: Mapping[str, type] | None):
        self.known = known
        self.arrays: dict[str, np.ndarray] = {}
        self.tensors: dict[str, Any] = {}
        self._seen: dict[tuple, str] = {}
        self._alive: list[Any] = []  # an address names an array only while the array lives
        self._storages: set[int] = set()

    def node(self, x: Any, path: str, *, inside_object: bool) -> Any:
        if needs_template(x) and not inside_object and self.known is not None and self.known.get(path) is not type(x):
            was = self.known[path].__name__ if path in self.known else "absent"
            raise CheckpointError(
                f"{path} is a {type(x).__name__}, but was {was} in the fresh state, so it could not be restored; "
                "make it in init, or hold arrays, numbers and tuples there"
            )
        if isinstance(x, Enum):
            return {"enum": x.name}
        if isinstance(x, np.generic):
            return {"scalar": self._array(np.asarray(x))}
        if x is None or isinstance(x, bool | int | str):
            return x
        if isinstance(x, float):
            return x if math.isfinite(x) else {"float": repr(x)}
        if isinstance(x, np.ndarray):
            if x.dtype.hasobject:
                raise CheckpointError(f"{path} is an array of Python objects; {_ALLOWED}")
            return {"array": self._array(x), "axes": _memory_order(x.strides)}
        if is_tensor(x):
            return self._tensor(x, path)
        if _is_record(x) or isinstance(x, list | tuple | dict):
            return self._container(x, path, inside_object)
        if _has_state_dict(x):
            return {"object": self.node(x.state_dict(), path, inside_object=True)}
        raise CheckpointError(f"{path} is a {type(x).__name__}, which cannot be saved; {_ALLOWED}")

    def _container(self, x: Any, path: str, inside: bool) -> dict:
        children = [self.node(child, key, inside_object=inside) for key, child in _children(x, path)]
        if _is_record(x):
            return {"fields": dict(zip(_field_names(x), children, strict=True))}
        if isinstance(x, dict):
            for key in x:
                if not isinstance(key, str | int) or isinstance(key, bool):
                    raise CheckpointError(f"{path} has the key {key!r}; keys must be strings or integers")
            return {"dict": [[key, child] for key, child in zip(x, children, strict=True)]}
        return {"list" if isinstance(x, list) else "tuple": children}

    def _array(self, x: np.ndarray) -> str:
        where = ("array", x.__array_interface__["data"][0], x.shape, x.strides, x.dtype.str)
        if x.size and where in self._seen:  # one array under two names comes back as one array
            return self._seen[where]
        key = f"a{len(self.arrays)}"
        self._alive.append(x)
        self._seen[where] = key
        self.arrays[key] = np.asarray(x.transpose(_memory_order(x.strides)), order="C")
        return key

    def _tensor(self, x: Any, path: str) -> dict:
        if x.requires_grad and not x.is_leaf:
            raise CheckpointError(f"{path} carries an autograd graph, which cannot be saved; detach it")
        axes, grad, x = _memory_order(x.stride()), bool(x.requires_grad), x.detach()
        where = ("tensor", str(x.device), x.data_ptr(), tuple(x.shape), x.stride(), str(x.dtype))
        if x.numel() == 0 or where not in self._seen:
            key = f"t{len(self.tensors)}"
            self._alive.append(x)
            self._seen[where] = key
            flat = x.permute(axes).contiguous()
            storage = flat.untyped_storage().data_ptr()
            if storage in self._storages:  # safetensors refuses tensors that overlap
                flat = flat.clone()
            self._storages.add(storage)
            self.tensors[key] = flat
        return {"tensor": self._seen[where], "axes": axes, "grad": grad, "device": str(x.device)}


class _Unpacker:
    def __init__(self, packed: Packed):
        self.packed = packed
        self._made: dict[tuple, Any] = {}
        self._in_place: set[int] = set()

    def value(self, node: Any, template: Any, path: str) -> Any:
        if not isinstance(node, dict):
            return node
        kind = next(iter(node))
        content = node[kind]
        if kind == "float":
            return float(content)
        if kind == "scalar":
            return self.packed.arrays[content][()]
        if kind in ("array", "tensor"):
            return self._leaf(kind, node, template)
        if kind in ("list", "tuple"):
            old = template if isinstance(template, list | tuple) else ()
            items = [
                self.value(child, old[i] if i < len(old) else None, f"{path}[{i}]") for i, child in enumerate(content)
            ]
            return items if kind == "list" else tuple(items)
        if kind == "dict":
            old = template if isinstance(template, dict) else {}
            items = {key: self.value(child, old.get(key), _at_key(path, key)) for key, child in content}
            return _like_dict(template, items)
        if kind == "enum":
            return self._enum(content, template, path)
        if kind == "fields":
            return self._record(content, template, path)
        if kind == "object":
            template.load_state_dict(self.value(content, None, path))
            return template
        raise CheckpointError(f"{path} has an entry of unknown kind {kind!r}")

    def _enum(self, content: str, template: Any, path: str) -> Enum:
        if not isinstance(template, Enum):
            raise CheckpointError(f"{path} was saved as the choice {content}, which differs from today's fields")
        return type(template)[content]

    def _record(self, fields: dict[str, Any], template: Any, path: str) -> Any:
        if not _is_record(template) or set(_field_names(template)) != set(fields):
            raise CheckpointError(f"{path} was saved with the fields {', '.join(fields)}, which differ from today's")
        values = {name: self.value(child, getattr(template, name), f"{path}.{name}") for name, child in fields.items()}
        if isinstance(template, tuple):
            return type(template)(**values)
        given = {f.name: values[f.name] for f in dataclasses.fields(template) if f.init}
        made = type(template)(**given)
        for name in values.keys() - given.keys():
            object.__setattr__(made, name, values[name])
        return made

    def _leaf(self, kind: str, node: dict, template: Any) -> Any:
        key, axes = node[kind], node["axes"]
        back = [axes.index(i) for i in range(len(axes))]
        if kind == "array":
            return self._made.setdefault((key, tuple(axes)), self.packed.arrays[key].transpose(back))
        if node["grad"] and is_tensor(template) and template.requires_grad and id(template) not in self._in_place:
            # an optimiser made beside it holds this very tensor: fill it instead of replacing it
            self._in_place.add(id(template))
            template.data = self.packed.tensors[key].permute(back).to(template.device)
            self._made[key, tuple(axes), True] = template
            return template
        if (key, tuple(axes), node["grad"]) not in self._made:
            made = self.packed.tensors[key].permute(back)
            made = made.to(template.device if is_tensor(template) else node["device"])
            self._made[key, tuple(axes), node["grad"]] = made.requires_grad_(node["grad"])
        return self._made[key, tuple(axes), node["grad"]]


def _is_record(x: object) -> bool:
    is_dataclass = dataclasses.is_dataclass(x) and not isinstance(x, type)
    return is_dataclass or (isinstance(x, tuple) and hasattr(x, "_fields"))


def _has_state_dict(x: object) -> bool:
    return hasattr(x, "state_dict") and hasattr(x, "load_state_dict") and not isinstance(x, type)


def _field_names(x: Any) -> tuple[str, ...]:
    return getattr(x, "_fields", None) or tuple(f.name for f in dataclasses.fields(x))


def _children(x: Any, path: str) -> list[tuple[str, Any]]:
    if _is_record(x):
        return [(f"{path}.{name}", getattr(x, name)) for name in _field_names(x)]
    if isinstance(x, dict):
        return [(_at_key(path, key), child) for key, child in x.items()]
    if isinstance(x, list | tuple):
        return [(f"{path}[{i}]", child) for i, child in enumerate(x)]
    return []


def _at_key(path: str, key: Any) -> str:
    return f"{path}[{key!r}]" if path else str(key)  # a nameless root: its keys are the names


def _memory_order(strides: tuple[int, ...]) -> list[int]:
    # sums run in memory order, so a transposed array must come back transposed to give the same bits
    return sorted(range(len(strides)), key=lambda i: -abs(strides[i]))


def _like_dict(template: Any, items: dict) -> dict:
    if not isinstance(template, dict) or type(template) is dict:
        return items
    made = copy.copy(template)
    made.clear()
    made.update(items)
    return made


def tensor_bytes(x: Any) -> bytes:
    """The bytes of a torch tensor of any dtype, in row order."""
    import torch

    return x.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _place(node: Any, key: str, path: str = "") -> str | None:
    """Path of the first entry that refers to an array."""
    if isinstance(node, dict):
        if key in (node.get("array"), node.get("tensor"), node.get("scalar")):
            return path
        pairs = node["dict"] if "dict" in node else node.get("fields", node).items()
        places = (_place(child, key, path if k in _KINDS else f"{path}.{k}") for k, child in pairs)
        return next((p for p in places if p is not None), None)
    if isinstance(node, list):
        places = (_place(child, key, f"{path}[{i}]") for i, child in enumerate(node))
        return next((p for p in places if p is not None), None)
    return None


def _first_difference(a: Any, b: Any, path: str) -> str:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        key = next(k for k in a if a[k] != b[k])
        return _first_difference(a[key], b[key], path if key in _KINDS else f"{path}.{key}")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        i = next(i for i in range(len(a)) if a[i] != b[i])
        return _first_difference(a[i], b[i], f"{path}[{i}]")
    return f"{path}: {str(a)[:60]} against {str(b)[:60]}"


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
