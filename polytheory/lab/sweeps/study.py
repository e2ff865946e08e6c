"""A study: methods x environments x budgets x seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytheory.catalog import Entry, find
from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.build import algorithm_class, environment_options
from polytheory.lab.sweeps.cells import SCALED_BLOCK, UNITS, Cell

if TYPE_CHECKING:
    from polytheory.lab.sweeps.running import Outcome

ROOMS = ("auto", "reference", "scaled")
BUDGET = "budget"  # a setting of this value takes the cell's budget


@dataclass(frozen=True)
class Method:
    """A method of a study.

    Fields:
        name: in the catalog.
        algorithm: class name; empty for the method's first.
        settings: of the algorithm. A list is a knob: one cell for each of its values (a value that is a list itself stands in
            a list of its own). The text "budget" stands for the cell's number of steps or episodes.
        access: name of an access, empty for the method's own.
        measure: what is recorded of this method beside the study's ``measure``.
        known_rewards: True makes the rewards public, for methods that otherwise estimate them; a list is a knob.
    """

    name: str
    algorithm: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    access: str = ""
    measure: Sequence[str] = ()
    known_rewards: bool | Sequence[bool] | None = None


@dataclass(frozen=True)
class Environment:
    """An environment of a study: its name, and options where a list is a knob, as in `Method`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What to run, and what to record of it.

    Fields:
        name: of the study.
        methods, environments: names, `Method` and `Environment`, or mappings with their fields.
        seeds: how many, counted from 0. More seeds later change no earlier result.
        steps, episodes: budget of every run (one of the two); a list is a knob. Neither: until the method is done.
        measure: names of exact measures (`polytheory.lab.sweeps.measures.EXACT`), of anything that the method's steps
            report, or ``package.module:function``.
        seed: root of all random numbers.
        room: "scaled" runs a block of seeds in lock-step, "reference" one at a time; "auto" is scaled where the method is
            there and torch is installed.
        block: seeds in one file; default 64 in lock-step, else 1.
        density: rows recorded for a tenfold of steps, >= 1.
        extra: tables that other parts of the laboratory read (`EXTRA`); no result depends on them.

    Raises `SettingError` and `UnknownNameError` for anything that cannot be run.
    """

    name: str
    methods: Sequence[Any]
    environments: Sequence[Any]
    seeds: int = 1
    steps: int | Sequence[int] | None = None
    episodes: int | Sequence[int] | None = None
    measure: Sequence[str] = ("suboptimality",)
    seed: int = 0
    room: str = "auto"
    block: int | None = None
    density: int = 16
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in (("methods", Method), ("environments", Environment)):
            made = tuple(_made(kind, x) for x in getattr(self, name))
            if not made:
                raise SettingError(f"the study {self.name!r} has no {name}; give at least one")
            object.__setattr__(self, name, made)
        if not self.name or any(c in self.name for c in "/\\"):
            raise SettingError(f"name = {self.name!r}; the name of a study is not empty and holds no slash")
        if self.steps is not None and self.episodes is not None:
            raise SettingError("both steps and episodes are given; a study has one of them as budget")
        for name, least in (("seeds", 1), ("seed", 0), ("density", 1), ("block", 1)):
            value = getattr(self, name)
            if not (_whole(value) and value >= least) and not (name == "block" and value is None):
                raise SettingError(f"{name} = {value!r}; a whole number >= {least} is needed")
        for value in (*_values(self.steps), *_values(self.episodes)):
            if value is not None and not (_whole(value) and value >= 1):
                raise SettingError(f"budget {value!r}; steps and episodes are whole numbers >= 1")
        if self.room not in ROOMS:
            raise UnknownNameError("room", self.room, ROOMS)

    @classmethod
    def read(cls, path: str | Path, *, small: bool = False) -> Study:
        """The study of a TOML file; ``small`` puts the keys of its table ``[small]`` over the others."""
        from polytheory.lab.sweeps.reading import read

        return read(path, small=small)

    def cells(self) -> list[Cell]:
        """Every cell, in the order of the study, each once."""
        found: dict[str, Cell] = {}
        for method, environment in itertools.product(self.methods, self.environments):
            for cell in self._cells_of(method, environment):
                found.setdefault(cell.key, cell)
        return list(found.values())

    def run(
        self,
        folder: str | Path,
        *,
        backend: str = "loky",
        jobs: int | None = None,
        shard: tuple[int, int] | None = None,
        progress: bool | None = None,
    ) -> Outcome:
        """Run what ``folder`` does not hold yet; returns what was done, found and failed, see `running.run_study`."""
        from polytheory.lab.sweeps.running import run_study

        return run_study(self, Path(folder), backend=backend, jobs=jobs, shard=shard, progress=progress)

    def _cells_of(self, method: Method, environment: Environment) -> Iterator[Cell]:
        entry = find(method.name)
        algorithm = method.algorithm or entry.algorithms[0]
        cls = algorithm_class(entry, algorithm, "reference")
        known = [f.name for f in fields(cls) if f.init]
        for name in method.settings:
            if name not in known:
                raise UnknownNameError(f"setting of {algorithm}", name, known)
        unit = UNITS[self.episodes is not None]
        room = self._room(entry, algorithm)
        measure = tuple(dict.fromkeys((*self.measure, *method.measure)))
        for budget in _values(self.episodes if self.steps is None else self.steps):
            for settings in _grid(method.settings):
                for options, known in itertools.product(_grid(environment.options), _values(method.known_rewards)):
                    yield Cell(
                        method=entry.name, algorithm=algorithm, environment=environment.name,
                        access=method.access or entry.access_of(algorithm), room=room, unit=unit, budget=budget,
                        settings=_with_budget(settings, budget), options=environment_options(environment.name, options),
                        measure=measure, density=self.density, root=self.seed, seeds=self.seeds,
                        block=self.block or (SCALED_BLOCK if room == "scaled" else 1), known_rewards=known,
                    )  # fmt: skip

    def _room(self, entry: Entry, algorithm: str) -> str:
        # never by the number of seeds: more of them must not move the first ones
        if self.room != "auto":
            algorithm_class(entry, algorithm, self.room)
            return self.room
        if find_spec("torch") is None:
            return "reference"
        try:
            algorithm_class(entry, algorithm, "scaled")
        except (SettingError, ImportError):
            return "reference"
        return "scaled"


def _made(kind: type, x: Any) -> Any:
    noun = kind.__name__.lower()
    if isinstance(x, kind):
        return x
    if isinstance(x, str):
        return kind(x)
    if not isinstance(x, Mapping):
        raise SettingError(f"{noun} {x!r}: a name is needed, or a table with one")
    known = [f.name for f in fields(kind)]
    for name, value in x.items():
        if name not in known:
            raise UnknownNameError(f"{noun} key", name, known)
        what, right = _KINDS[name]
        if not right(value):
            raise SettingError(f"{name} of the {noun} {x.get('name', '')} = {value!r}; {what} is needed")
    if not x.get("name"):
        raise SettingError(f"{noun} without a name; give name = ...")
    return kind(**x)


def _values(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, Sequence) and not isinstance(x, str) else (x,)


def _grid(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every choice of the knobs of a table."""
    for name, value in table.items():
        if isinstance(value, list | tuple) and not value:
            raise SettingError(f"{name} = []; a knob needs at least one value")
        for x in _values(value):
            if isinstance(x, float) and not math.isfinite(x):
                raise SettingError(f"{name} = {x}; a finite number is needed")
    for choice in itertools.product(*map(_values, table.values())):
        yield dict(zip(table, choice, strict=True))


def _with_budget(settings: dict[str, Any], budget: int | None) -> dict[str, Any]:
    if budget is None and BUDGET in settings.values():
        raise SettingError("a setting is 'budget', but the study has none; give steps or episodes")
    return {name: budget if value == BUDGET else value for name, value in settings.items()}


def _whole(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def is_names(x: Any) -> bool:
    """True for a list of texts."""
    return isinstance(x, list | tuple) and all(isinstance(name, str) for name in x)


_TABLE = ("a table of names and values", lambda x: isinstance(x, Mapping))
_TEXT = ("text", lambda x: isinstance(x, str))
_SWITCH = ("true, false, or a list of them", lambda x: x is None or {*map(type, _values(x))} == {bool})
_KINDS = {"settings": _TABLE, "options": _TABLE, "measure": ("a list of names", is_names), "known_rewards": _SWITCH}
_KINDS |= dict.fromkeys(("name", "algorithm", "access"), _TEXT)
