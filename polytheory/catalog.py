"""The index of methods: paper -> method -> the files that hold it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from polytheory.errors import UnknownNameError


@dataclass(frozen=True)
class Entry:
    """One method: its paper, its algorithms (class names, the first is the default) and the access they take."""

    name: str
    family: str
    title: str
    paper: str
    bib: str
    url: str
    algorithms: tuple[str, ...]
    access: str
    accesses: Mapping[str, str] = field(default_factory=dict)  # of algorithms that take another one

    @property
    def stem(self) -> str:
        """The method's file name without suffix."""
        return self.name.replace("-", "_")

    @property
    def page(self) -> str:
        """Path of the documentation page in the repository."""
        return f"docs/methods/{self.name}.md"

    def access_of(self, algorithm: str) -> str:
        """Name of the access that an algorithm takes."""
        return self.accesses.get(algorithm, self.access)

    def path(self, room: str) -> str:
        """Path of the method's file in ``reference``, ``scaled`` or ``proofs_check``."""
        return f"polytheory/{room}/{self.family}/{self.stem}.py"


@cache
def methods() -> tuple[Entry, ...]:
    """Every method, in the order of the catalog."""
    text = (Path(__file__).parent / "catalog.toml").read_text(encoding="utf-8")
    return tuple(Entry(**{**row, "algorithms": tuple(row["algorithms"])}) for row in tomllib.loads(text)["method"])


def find(name: str) -> Entry:
    """The entry of a method. Raises `UnknownNameError` with the nearest name."""
    by_name = {entry.name: entry for entry in methods()}
    if name not in by_name:
        raise UnknownNameError("method", name, by_name)
    return by_name[name]
