"""The pure parts that a post-training method is composed of, and the check that a list of them fits together.

A part declares the columns it reads and writes, which of them must be *current* (``now``: recomputed under the weights being
trained) and its unit. A recipe is an ordered list of parts; `check_order` finds a column that nobody writes before any
work is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from polytheory.errors import ColumnError, SettingError, UnknownNameError


class Kind(StrEnum):
    """What a part is for; a recipe may use a kind several times, in any order that the data allows."""

    PROMPTING = "prompting"
    SAMPLER = "sampler"
    SCORE = "score"
    REWARD_TRANSFORM = "reward transform"
    FILTER = "filter"
    ADVANTAGE = "advantage"
    LOSS = "loss"
    AGGREGATE = "aggregate"
    UPDATE = "update"
    MONITOR = "monitor"


class Unit(StrEnum):
    """What one entry of a part's output speaks of; a driver never splits a unit between micro-batches."""

    TOKEN = "token"
    TURN = "turn"
    SEQUENCE = "sequence"
    PAIR = "pair"
    GROUP = "group"


@dataclass(frozen=True, eq=False)
class Part:
    """A registered part.

    Fields: ``name``; ``kind``; ``function``; ``reads`` and ``writes`` columns; ``now`` columns that must be current and that
    gradients flow through; ``unit`` of the output; ``source`` paper and equation.
    """

    name: str
    kind: Kind
    function: Callable[..., Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    now: tuple[str, ...]
    unit: Unit
    source: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class Registry:
    """The parts of one room, by name."""

    def __init__(self, room: str):
        self.room = room
        self._parts: dict[str, Part] = {}

    def part(
        self,
        kind: Kind,
        *,
        reads: Sequence[str],
        writes: Sequence[str] = (),
        now: Sequence[str] = (),
        unit: Unit = Unit.TOKEN,
        source: str = "",
        name: str | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a function as a part; it stays an ordinary function.

        Raises `SettingError` when the name is taken by another function or a ``now`` column is not read.
        """

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            own = name or function.__name__
            known = self._parts.get(own)
            if known is not None and known.function.__module__ != function.__module__:
                raise SettingError(f"two parts of the {self.room} room are called {own!r}; rename one")
            if not set(now) <= set(reads):
                raise SettingError(f"part {own!r}: now columns {sorted(set(now) - set(reads))} are not among its reads")
            self._parts[own] = Part(own, kind, function, tuple(reads), tuple(writes), tuple(now), unit, source)
            return function

        return register

    def replace_function(self, name: str, function: Callable[..., Any]) -> None:
        """Let a registered part call another function; names that are no part are left alone."""
        if name in self._parts:
            self._parts[name] = replace(self._parts[name], function=function)

    def __getitem__(self, name: str) -> Part:
        if name not in self._parts:
            raise UnknownNameError("part", name, self._parts)
        return self._parts[name]

    def names(self, kind: Kind | None = None) -> tuple[str, ...]:
        """Names of the parts, of one kind or all, in the order of registration."""
        return tuple(n for n, p in self._parts.items() if kind is None or p.kind == kind)

    def writers(self, column: str) -> tuple[str, ...]:
        """Parts that write a column."""
        return tuple(n for n, p in self._parts.items() if column in p.writes)

    def check_order(self, names: Iterable[str], given: Iterable[str]) -> tuple[Part, ...]:
        """The parts of a recipe, checked: every column read is given or written by an earlier part.

        Raises `ColumnError` naming the part, the column and who could write it; `UnknownNameError` for a part.
        """
        present, found = set(given), []
        for name in names:
            part = self[name]
            for column in part.reads:
                if column not in present:
                    writers = self.writers(column)
                    hint = (
                        f"put one of {', '.join(writers)} before it"
                        if writers
                        else "no part writes it: give it with the data"
                    )
                    raise ColumnError(f"part {name!r} reads column {column!r}, which nobody wrote before it; {hint}")
            present |= set(part.writes)
            found.append(part)
        return tuple(found)


def need(columns: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    """The named columns. Raises `ColumnError` for one that is missing."""
    for name in names:
        if columns.get(name) is None:
            raise ColumnError(f"column {name!r} is missing; present: {', '.join(sorted(columns))}")
    return tuple(columns[name] for name in names)
