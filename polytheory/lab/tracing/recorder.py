"""Listening to a run: every call of a method's named parts during a step, with what went in and what came out.

Python's profiling hook tells of each call and return. Nothing is wrapped or replaced, so the run is the same with and without.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import CodeType, FrameType
from typing import Any

from polytheory.catalog import methods
from polytheory.lab.tracing.quantities import Quantity, quantities

ROOM = "polytheory.reference."
ASKED = ("rollouts", "sample", "initial_states", "reset_starts")  # what is asked of an access
_QUIET = (
    "init",
    "setup",
    "opened",
    "closed",
    "done",
    "policy",
    "info",
    "facts",
    "need",
    "start",
    "fits",
    "with_theta",
    "recipe",
    "groups",
    "advanced",
    "certified",
    "masked",
    "behaviour",
    "of",
)

# where a call is made, not what it computes
_SETTING = ("self", "access", "spec", "key", "ids", "requests", "model", "ball", "method", "use", "name")


@dataclass(eq=False)
class Call:
    """One call of a part.

    Fields:
        part: its name. about: the first line of its docstring. module: where it stands.
        method: whether it is a method of the algorithm (or of its policy), which gives the parts their order.
        arguments, inside, result: quantities that went in, its own variables at the end, and what came out.
        calls: the parts that it called, in order.
    """

    part: str
    about: str
    module: str
    arguments: list[Quantity]
    method: bool = False
    inside: list[Quantity] = field(default_factory=list)
    result: list[Quantity] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def walk(self) -> Iterator[Call]:
        """This call and all below it, in the order in which they began."""
        yield self
        for call in self.calls:
            yield from call.walk()

    def find(self, part: str) -> Call:
        """The first call of a part in here. Raises `KeyError`."""
        for call in self.walk():
            if call.part == part:
                return call
        raise KeyError(part)

    def __getitem__(self, name: str) -> Any:
        """The value of a quantity by name: of the result, else of its own variables, else of the arguments."""
        for q in (*self.result, *self.inside, *self.arguments):
            if q.name == name:
                return q.value
        raise KeyError(f"{self.part} has {', '.join(q.name for q in (*self.result, *self.inside, *self.arguments))}")

    def plain(self) -> dict[str, Any]:
        """As data."""
        kinds = {kind: [q.plain() for q in getattr(self, kind)] for kind in ("arguments", "inside", "result")}
        return {"part": self.part, "about": self.about, "module": self.module, **kinds,
                "calls": [call.plain() for call in self.calls]}  # fmt: skip


class Recorder:
    """The steps of one algorithm, recorded while `listening`; ``steps`` holds a `Call` of ``step`` for each.

    Args:
        algorithm: the object whose ``step`` is a root. sizes: sizes of axes by name, such as {"S": 2, "A": 2}.
    """

    def __init__(self, algorithm: Any, sizes: Mapping[str, int]):
        self.algorithm, self.sizes = algorithm, sizes
        self.steps: list[Call] = []
        self.wanted = True
        self._stack: list[tuple[FrameType, Call, bool]] = []
        self._known: dict[CodeType, _Part | None] = {}
        self._kept: list[Any] = []

    @contextmanager
    def listening(self) -> Iterator[Recorder]:
        """Listen until the end of the block, to this thread."""
        before, unknown = sys.getprofile(), _Part("", "", "", False, False, (), {})
        # most events are of code that is no part: they are turned away here
        sys.setprofile(
            lambda frame, event, arg: (
                None if self._known.get(frame.f_code, unknown) is None else self._event(frame, event, arg)
            )
        )
        try:
            yield self
        finally:
            sys.setprofile(before)
            self._stack.clear()
            self._kept.clear()

    def _event(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            if self.wanted and not (self._stack and self._stack[-1][2]):
                self._called(frame)
        elif event == "return" and self._stack and self._stack[-1][0] is frame:
            _, call, _ = self._stack.pop()
            part = self._known[frame.f_code]
            if part is not None:
                self._returned(call, part, frame, arg)

    def _called(self, frame: FrameType) -> None:
        code = frame.f_code
        if code not in self._known:
            self._known[code] = _part(code, frame.f_globals)
        part = self._known[code]
        if part is None:
            return
        values = frame.f_locals
        owner = values.get("self") if part.method else None
        if owner is self.algorithm and part.name == "step" and not self._stack:
            call = self._call(part, values)
            self.steps.append(call)
            self._stack.append((frame, call, False))
            return
        if not self._stack or (owner is not None and isinstance(getattr(type(owner), part.name, None), property)):
            return
        call = self._call(part, values)
        self._stack[-1][1].calls.append(call)
        own = owner is None or hasattr(owner, "requires") or hasattr(owner, "step")
        self._stack.append((frame, call, part.asked or not own))

    def _call(self, part: _Part, values: Mapping[str, Any]) -> Call:
        arguments = []
        for name in part.arguments:
            if name in values and name not in _SETTING:
                arguments += self._taken(name, values[name], part.annotations.get(name))
        return Call(part.name, part.about, part.module, arguments, part.method)

    def _returned(self, call: Call, part: _Part, frame: FrameType, result: Any) -> None:
        for name, value in frame.f_locals.items():
            loose = isinstance(value, int | str) and len(name) == 1  # a counter of a loop
            if name not in part.arguments and name not in _SETTING and not callable(value) and not loose:
                call.inside += self._taken(name, value, None)
        if isinstance(result, tuple) and not hasattr(result, "_fields") and part.name == "step":
            state, info = result
            call.result = self._taken("", state, None) + self._taken("info", dict(info), None)
            return
        name = "" if _has_names(result) else part.name
        call.result = self._taken(name, result, part.annotations.get("return"))
        _agree(call)

    def _taken(self, name: str, value: Any, annotation: Any) -> list[Quantity]:
        return quantities(name, value, annotation, self.sizes, keep=self._kept)


@dataclass(frozen=True)
class _Part:
    name: str
    about: str
    module: str
    method: bool
    asked: bool
    arguments: tuple[str, ...]
    annotations: Mapping[str, Any]


@cache
def _homes() -> tuple[str, ...]:
    """Where parts stand: the reference, and what a family's two rooms have in common."""
    return (ROOM, *sorted({f"polytheory.{entry.family}." for entry in methods()}))


def _part(code: CodeType, scope: Mapping[str, Any]) -> _Part | None:
    """What a code object is as a part; None for what is no part: helpers, checks, anything outside of the room."""
    name, module, path = code.co_name, str(scope.get("__name__", "")), code.co_qualname
    asked = module.startswith("polytheory.access") and name in ASKED
    if not asked and not module.startswith(_homes()):
        return None
    hidden = name.startswith(("_", "<", "check")) or name in _QUIET or "<locals>" in path
    if hidden or code.co_filename.startswith("<") or code.co_flags & inspect.CO_GENERATOR:
        return None
    owner: Any = scope
    for step in path.split("."):
        owner = owner.get(step) if isinstance(owner, Mapping) else vars(owner).get(step)
        if owner is None:
            return None
    function: Any = inspect.unwrap(getattr(owner, "fget", None) or getattr(owner, "__func__", owner))
    about = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    count = code.co_argcount + code.co_kwonlyargcount
    return _Part(
        name, about, module, "." in path, asked, code.co_varnames[:count], getattr(function, "__annotations__", {})
    )


def _agree(call: Call) -> None:
    """A variable of unknown axes has those of an argument or result of its shape."""
    known = {q.value.shape: q.axes for q in (*call.arguments, *call.result) if q.axes and all(q.axes)}
    for found in (call.arguments, call.inside, call.result):
        found[:] = [
            q._replace(axes=known.get(q.value.shape, q.axes)) if q.axes and not all(x.isupper() for x in q.axes) else q
            for q in found
        ]


def _has_names(x: Any) -> bool:
    """Whether the parts of a result have names of their own."""
    return isinstance(x, Mapping) or hasattr(x, "__dataclass_fields__") or hasattr(x, "_fields")
