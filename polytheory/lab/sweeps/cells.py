"""A cell: one method with one choice of settings on one environment, within one budget, over seeds.

A cell is plain data. Its ``key`` names everything that its numbers depend on except the seeds, so that a file of results is
either exactly what a study asks for, or none of its business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from polytheory import __version__
from polytheory.streams import subseed

FORMAT = 1  # of the files of results
SCALED_BLOCK = 64  # seeds that run in lock-step, and make one file
UNITS = ("steps", "episodes")


@dataclass(frozen=True, eq=False)
class Cell:
    """One row of a study.

    Fields:
        method, algorithm: name in the catalog, and class name.
        settings: of the algorithm, as given.
        environment, options: name of the environment, and its options as given.
        access: name of the access. known_rewards: whether it makes the rewards public; None says nothing, which is False.
        room: "reference", or "scaled" where all seeds of a block run in lock-step.
        unit, budget: "steps" or "episodes" and how many per seed; budget None runs until the method is done.
        measure: what is recorded.
        density: rows recorded for a tenfold of steps.
        root: seed of the study.
        seeds: how many seeds, counted from 0.
        block: seeds in one file.
    """

    method: str
    algorithm: str
    environment: str
    access: str
    room: str
    unit: str
    budget: int | None
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    measure: tuple[str, ...] = ()
    density: int = 16
    root: int = 0
    seeds: int = 1
    block: int = 1
    known_rewards: bool | None = None

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that name all that the numbers of a seed depend on."""
        run = {"room": self.room, self.unit: self.budget, "measure": list(self.measure), "density": self.density}
        return _digest({**self._problem, **run, "root": self.root, "format": FORMAT, "polytheory": __version__})[:16]

    @cached_property
    def seed(self) -> int:
        """Seed of the run; seed number i of the study is its replica i.

        A branch of a tree: it hangs on the study's seed and on the method, its settings, the environment and its options.
        Other cells, more seeds, another room or a longer budget leave it as it is.
        """
        return subseed(self.root, "sweep/cell", int(_digest(self._problem)[:15], 16))

    @property
    def columns(self) -> dict[str, Any]:
        """What the rows of a table say about the cell: names, budget, and a column for each setting and option given."""
        knobs = {f"env.{name}": _plain(x) for name, x in self.options.items()}
        knobs |= {f"algo.{name}": _plain(x) for name, x in self.settings.items()}
        if self.known_rewards is not None:
            knobs["access.known_rewards"] = self.known_rewards
        return {
            "method": self.method, "algorithm": self.algorithm, "environment": self.environment, **knobs,
            "budget": self.budget, "room": self.room,
        }  # fmt: skip

    @property
    def title(self) -> str:
        """One line for people."""
        told = {} if self.known_rewards is None else {"known_rewards": self.known_rewards}
        knobs = ", ".join(f"{name}={value}" for name, value in (self.settings | self.options | told).items())
        budget = "" if self.budget is None else f", {self.budget} {self.unit}"
        return f"{self.algorithm} on {self.environment}" + (f" ({knobs}{budget})" if knobs else budget)

    @property
    def _problem(self) -> dict[str, Any]:
        names = ("method", "algorithm", "settings", "environment", "options", "access")
        told = {"known_rewards": True} if self.known_rewards else {}  # else keys and seeds as ever
        return {name: getattr(self, name) for name in names} | told


class Job(NamedTuple):
    """Seeds ``first`` to ``first + count - 1`` of a cell: what one worker does at a time, and what one file holds."""

    cell: Cell
    first: int
    count: int

    @property
    def seeds(self) -> range:
        """Its seeds."""
        return range(self.first, self.first + self.count)

    @property
    def pieces(self) -> list[Job]:
        """What runs at once: all seeds in lock-step, in the reference one after another."""
        if self.cell.room == "scaled":
            return [self]
        return [Job(self.cell, seed, 1) for seed in self.seeds]

    @property
    def title(self) -> str:
        """One line for people."""
        last = self.first + self.count - 1
        return f"{self.cell.title}, seed{'' if self.count == 1 else 's'} {self.first}" + (
            "" if self.count == 1 else f" to {last}"
        )


def blocks(cell: Cell) -> Iterator[range]:
    """The seeds of a cell, file by file."""
    for first in range(0, cell.seeds, cell.block):
        yield range(first, min(first + cell.block, cell.seeds))


def missing(cell: Cell, block: range, done: set[int]) -> Iterator[Job]:
    """Jobs for the seeds of a block that are not done: one for each unbroken stretch."""
    todo = [seed for seed in block if seed not in done]
    while todo:
        first = todo[0]
        count = next((i for i, seed in enumerate(todo) if seed != first + i), len(todo))
        yield Job(cell, first, count)
        todo = todo[count:]


def _digest(x: Any) -> str:
    text = json.dumps(x, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(x: Any) -> Any:
    """A number, a text or None; lists and tables as JSON."""
    return x if x is None or isinstance(x, bool | int | float | str) else json.dumps(x, sort_keys=True)
