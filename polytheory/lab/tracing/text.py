"""A recorded step as text that can be followed with a pocket calculator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from polytheory.lab.tracing.quantities import Quantity
from polytheory.lab.tracing.recorder import Call
from polytheory.lab.tracing.tables import MOST_ROWS, WIDTH, grouped, inline, number
from polytheory.lab.tracing.views import view

# told by what is around them, or nothing but rounding
SILENT = (
    "rounding_bound", "sweep_rounding", "inner_rounding", "feigned_gain", "stage_error", "discounted", "discounted_values",
    "restrict", "log_probs", "staged_rewards", "scored",
)  # fmt: skip
_WITH_CONSTANTS = ("critic", "evaluate")  # views beside which their own numbers are told
TWICE = 2  # calls of the same part under one call that are told; of further ones only the number


class Teller:
    """Writes one step after the other; knows the step before, so that long tables tell only what is new.

    Args:
        state: tell only the rows of this state in tables over states.
        sizes: of axes, by name: parameters [d] with d = S * A are told as a table over states and actions.
    """

    def __init__(self, state: int | None = None, sizes: Mapping[str, int] | None = None):
        self.state, self.sizes = state, sizes or {}
        self.last: dict[tuple[str, int], Call] = {}
        self.shown: set[Any] = set()
        self.count: dict[str, int] = {}

    def step(self, call: Call) -> list[str]:
        """The lines of one step."""
        self.shown, self.count = set(), {}
        lines = [line for child in self._few(call.calls) for line in self._call(child, 1)]
        self._remember(call)
        return [*lines, *self._after(call)]

    def before(self, call: Call) -> list[str]:
        """The state that a step starts from."""
        found = [q for q in call.arguments if q.name.startswith("state.")]
        short = [q._replace(name=q.name.removeprefix("state.")) for q in found]
        return ["before", *_indent(self._told([q for q in short if inline(q) is not None], []), 1)]

    def _call(self, call: Call, depth: int) -> list[str]:
        if call.part.startswith("("):
            return ["  " * depth + call.part]
        if call.part in SILENT or self._again(call):
            return []
        own = view(replace(call, result=[self._unrolled(q) for q in call.result]))
        if own is not None:
            short = [q for q in call.inside if inline(q) is not None] if call.part in _WITH_CONSTANTS else []
            lines = [*self._told(short, []), *(line for rows in own for line in rows.table(self.state).lines())]
            self._tell(*(q for c in call.walk() for q in (*c.result, *c.inside)))
            return _indent([_head(call), *_indent(lines, 1)], depth)
        below = [line for child in self._few(call.calls) for line in self._call(child, 1)]
        if not below:
            return _indent(self._leaf(call), depth)
        found = (*_own(call), *_new(call)) if not call.method else () if call.part == "step" else _new(call)
        news = [q for q in found if not self._old(q) and "]" not in q.name]
        return _indent([_head(call), *below, *_indent(self._told(news, [q.name for q in news]), 1)], depth)

    def _again(self, call: Call) -> bool:
        """Whether the same part was told in this step with the same arguments."""
        parts = (q.value.tobytes() if q.axes else q.value for q in (*call.arguments, *call.result))
        key = (call.part, *parts)
        again = not call.method and key in self.shown
        self.shown.add(key)
        return again

    def _old(self, q: Quantity) -> bool:
        """Whether a quantity was told in this step, a number also under another name."""
        return _key(q) in self.shown or (isinstance(q.value, float) and ("", q.value) in self.shown)

    def _leaf(self, call: Call) -> list[str]:
        """A call with nothing below it: what went in beside what came out."""
        result = _new(call)
        given = _read(call)
        if all(not q.axes for q in (*given, *_own(call), *result)) and len(result) == 1:
            self._tell(*given, result[0])
            given = ", ".join(str(inline(q)) for q in given)
            return [f"{call.part}({given}) = {_value(result[0])}"] if given or call.part == result[0].name else []
        if call.method:
            given = {q.key for q in call.arguments if q.axes}
            news = [q for q in result if not self._old(q) and not (q.axes and q.key in given)]
            lines = self._told(news, [q.name for q in news], self._same(call))
            return [_head(call), *_indent(lines, 1)] if lines else []
        names = {_key(q) for q in result}
        inside = [q for q in _own(call) if _key(q) not in names]
        found = [*given, *inside, *result]
        lines = self._told(found, [q.name for q in (*inside, *result)], self._same(call))
        return [_head(call), *_indent(lines, 1)] if lines else []

    def _told(self, found: Sequence[Quantity], news: Sequence[str], before: Call | None = None) -> list[str]:
        """Numbers and short vectors in lines, the rest as tables."""
        unique = list({q.name: self._unrolled(q) for q in found if "rounding" not in q.name}.values())
        self._tell(*unique)
        large = [q for q in unique if inline(q) is None]
        large += [q for q in unique if len(q.axes) == 1 and any(len(x.axes) == 1 and x.axes == q.axes for x in large)]
        small = [str(inline(q)) for q in unique if q not in large]
        old = [] if before is None else [*before.result, *before.inside]
        tables = [line for rows in grouped(large, news, old) for line in rows.table(self.state).lines()]
        return [*_wrapped(small), *tables]

    def _unrolled(self, q: Quantity) -> Quantity:
        S, A = self.sizes.get("S", 0), self.sizes.get("A", 0)
        if not q.axes or q.axes[-1] != "d" or q.value.shape[-1] != S * A:
            return q
        return q._replace(axes=(*q.axes[:-1], "S", "A"), value=q.value.reshape(*q.value.shape[:-1], S, A))

    def _after(self, call: Call) -> list[str]:
        """What the step changed in the state, and what it reports."""
        old: dict[str, Any] = {q.name.removeprefix("state."): q.value for q in call.arguments}
        info = [q for q in call.result if q.name.startswith("info.")]
        state = [q for q in call.result if q not in info and not np.array_equal(old.get(q.name, np.nan), q.value)]
        short = [q for q in state if inline(q) is not None]
        unseen = [q for q in state if inline(q) is None and _key(q) not in self.shown]
        reported = [q._replace(name=q.name.removeprefix("info.")) for q in info if q.name[5:] not in old]
        after = self._told([*short, *unseen], [q.name for q in unseen], _as_before(call))
        lines = ["after", *_indent(after, 1)] if after else ["after: nothing changed"]
        return _indent([*lines, *([f"reports {', '.join(str(inline(q)) for q in reported)}"] if reported else [])], 1)

    def _tell(self, *found: Quantity) -> None:
        self.shown |= {_key(q) for q in found} | {("", q.value) for q in found if isinstance(q.value, float)}

    def _few(self, calls: Sequence[Call]) -> list[Call]:
        seen: dict[str, int] = {}
        out, left = [], {}
        for call in calls:
            seen[call.part] = seen.get(call.part, 0) + 1
            if seen[call.part] <= TWICE:
                out.append(call)
            else:
                left[call.part] = left.get(call.part, 0) + 1
        for part, n in left.items():
            if part not in SILENT:
                out.append(Call(f"({n} more calls of {part})", "", "", []))
        return out

    def _remember(self, call: Call) -> None:
        count: dict[str, int] = {}
        for c in call.walk():
            self.last[c.part, count.get(c.part, 0)] = c
            count[c.part] = count.get(c.part, 0) + 1

    def _same(self, call: Call) -> Call | None:
        """The same call of the step before."""
        k = self.count.get(call.part, 0)
        self.count[call.part] = k + 1
        return self.last.get((call.part, k))


def _new(call: Call) -> list[Quantity]:
    """The result without what was merely handed on."""
    given = {(q.name.partition(".")[2], q.key) for q in call.arguments if "." in q.name}
    inside = {_key(q) for q in call.inside if q.axes}
    return [
        q for q in call.result
        if not (q.axes and (q.name, q.key) in given) and not (q.name.endswith("]") and _key(q) in inside)
    ]  # fmt: skip


def _read(call: Call) -> list[Quantity]:
    """The arguments; of a dict of columns those that the part reads."""
    from polytheory.reference.posttraining.base import PARTS

    reads = PARTS[call.part].reads if call.part in PARTS.names() else ()
    out = []
    for q in call.arguments:
        head, _, column = q.name.partition(".")
        if head == "columns" and column in reads:
            out.append(q._replace(name=column))
        elif head not in ("columns", "state", "state_dict"):
            out.append(q)
    return out


def _own(call: Call) -> list[Quantity]:
    """A call's own variables, without the fields of what it was given by others; large tables are left to the data."""
    return [q for q in call.inside if "." not in q.name and np.size(q.value) <= 4 * MOST_ROWS]


def _as_before(call: Call) -> Call:
    """The state before, as a call with it as result."""
    state = [q._replace(name=q.name.removeprefix("state.")) for q in call.arguments]
    return Call("state", "", "", [], result=state)


def _key(q: Quantity) -> Any:
    return q.key if q.axes else (q.name.rpartition(".")[2], q.value)


def _head(call: Call) -> str:
    about = call.about if len(call.about) <= WIDTH else call.about[: WIDTH - 3] + "..."
    return f"{call.part}: {about}" if about else call.part


def _value(q: Quantity) -> str:
    return q.value if isinstance(q.value, str) else number(q.value)


def _indent(lines: Sequence[str], depth: int) -> list[str]:
    return ["  " * depth + line for line in lines]


def _wrapped(words: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 3 <= WIDTH:
            lines[-1] += f",  {word}"
        else:
            lines.append(word)
    return lines
