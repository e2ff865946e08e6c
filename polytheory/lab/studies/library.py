"""The studies that ship: TOML files in `polytheory.studies`.

A study is a sweep (see `polytheory.lab.sweeps`), or, where the numbers are not those of one run per cell, a function:
``compute = "package.module:function"`` with ``[settings]``, whose rows are mappings from column to value. Both have a table
``[small]`` for the form that tests run, and ``[[figure]]`` tables (see `question`).
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytheory.errors import SettingError, UnknownNameError, require
from polytheory.lab.studies.question import Question, questions
from polytheory.lab.sweeps import Study, collect

if TYPE_CHECKING:
    import polars

KEYS = ("name", "title", "about", "compute", "settings", "figure", "small")


@dataclass(frozen=True)
class Computed:
    """A study whose rows a function returns; ``settings`` are its arguments."""

    name: str
    compute: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> polars.DataFrame:
        """The rows, with the columns that tidy results have. Raises `SettingError` for a function that does not exist."""
        pl = require("polars", "lab")
        module, _, name = self.compute.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise SettingError(f"compute = {self.compute!r}: {error}; write package.module:function") from error
        common = {"study": self.name, "method": "", "algorithm": "", "environment": "", "seed": 0, "step": 0}
        return pl.DataFrame([common | dict(row) for row in function(**self.settings)], infer_schema_length=None)


def names() -> list[str]:
    """Names of the studies that ship."""
    return sorted(
        f.name.removesuffix(".toml") for f in files("polytheory.studies").iterdir() if f.name.endswith(".toml")
    )


def about(name: str) -> str:
    """What a study is about: the comment at the head of its file, if there is one."""
    text = _path(name).read_text(encoding="utf-8").splitlines()
    return text[0].removeprefix("#").strip() if text and text[0].startswith("#") else ""


def load(name: str, *, small: bool = False) -> Study | Computed:
    """A study by name, or by the path of a TOML file. Raises `UnknownNameError`, `SettingError`."""
    path = _path(name)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}; pass the path of a study's TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no TOML: {error}") from error
    if "compute" not in table:
        return Study.read(path, small=small)
    for key in table:
        if key not in KEYS:
            raise UnknownNameError("key of a computed study", key, KEYS)
    settings = {**table.get("settings", {}), **(table.get("small", {}) if small else {})}
    return Computed(table.get("name", path.stem), table["compute"], settings, {"figure": table.get("figure", [])})


def asked(study: Study | Computed) -> list[Question]:
    """What the study's figures ask."""
    return questions(study.extra.get("figure", []))


def results(
    study: Study | Computed, folder: Path, *, backend: str = "loky", jobs: int | None = None
) -> polars.DataFrame:
    """Run what the folder does not hold yet; all results as one table. Raises `RunError` where a cell failed."""
    if isinstance(study, Computed):
        return study.table()
    study.run(folder, backend=backend, jobs=jobs).check()
    return collect(folder)


def _path(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    if name not in names():
        raise UnknownNameError("study", name, names())
    return Path(str(files("polytheory.studies").joinpath(f"{name}.toml")))
