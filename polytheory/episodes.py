"""Whole episodes of finite models as files: NumPy archives and Parquet tables.

An archive (.npz) holds ``states``, ``actions``, ``rewards`` [n, t] and, where lengths differ, ``mask`` [n, t], True on the
steps taken. A table (.parquet) has one row a step: ``episode``, ``step`` (0, 1, ...), ``state``, ``action``, ``reward``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polytheory.errors import SettingError, UnknownNameError, require
from polytheory.trajectories import Trajectories

SUFFIXES = (".npz", ".parquet")
COLUMNS = ("episode", "step", "state", "action", "reward")


def read_episodes(path: str | Path) -> Trajectories:
    """Episodes of a file, rows in the order of their first step; entries after an end are masked and zero.

    Raises `SettingError` for a file that is missing, unreadable or holds something else, `UnknownNameError` for a suffix
    other than .npz and .parquet, `MissingExtraError` where polars is not installed.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UnknownNameError("kind of file", path.suffix or path.name, SUFFIXES)
    if not path.is_file():
        raise SettingError(f"{path} is no file; name an archive or a table of episodes, see `polytheory.episodes`")
    return _from_arrays(_archive(path) if path.suffix == ".npz" else _table(path), str(path))


def write_episodes(path: str | Path, traj: Trajectories) -> None:
    """Write whole episodes as the kind of file that the suffix names; errors as in `read_episodes`."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UnknownNameError("kind of file", path.suffix or path.name, SUFFIXES)
    columns = {name: np.asarray(getattr(traj, name)) for name in ("states", "actions", "rewards", "mask")}
    if path.suffix == ".npz":
        np.savez_compressed(path, **columns)  # pyright: ignore[reportArgumentType]
        return
    episode, step = columns["mask"].nonzero()
    rows = (episode, step, *(columns[name][episode, step] for name in ("states", "actions", "rewards")))
    require("polars", "lab").DataFrame(dict(zip(COLUMNS, rows, strict=True))).write_parquet(path)


def _archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SettingError(f"{path} cannot be read as a NumPy archive: {error}; write it with numpy.savez") from error


def _table(path: Path) -> dict[str, np.ndarray]:
    pl = require("polars", "lab")
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SettingError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from error
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise SettingError(f"{path} has no column {missing[0]!r}; a table of episodes has {', '.join(COLUMNS)}")
    episode, step, *values = (table[name].to_numpy() for name in COLUMNS)
    row = np.unique(episode, return_inverse=True)[1]
    if not len(row) or step.dtype.kind not in "iu" or step.min() < 0:
        raise SettingError(f"{path}: steps must be whole numbers from 0 on, and at least one is needed")
    shape = (int(row.max()) + 1, int(step.max()) + 1)
    mask = np.zeros(shape, dtype=bool)
    mask[row, step] = True
    if mask.sum() != len(row):
        raise SettingError(f"{path}: some step of an episode is there twice")
    arrays: dict[str, np.ndarray] = {"mask": mask}
    for name, x in zip(("states", "actions", "rewards"), values, strict=True):
        arrays[name] = np.zeros(shape, dtype=x.dtype)
        arrays[name][row, step] = x
    return arrays


def _from_arrays(arrays: Mapping[str, Any], name: str) -> Trajectories:
    for key in ("states", "actions", "rewards"):
        if key not in arrays:
            raise SettingError(f"{name} has no array {key!r}; it has {', '.join(sorted(arrays)) or 'none'}")
    states, actions, rewards = (np.asarray(arrays[key]) for key in ("states", "actions", "rewards"))
    mask = np.asarray(arrays.get("mask", np.ones(actions.shape, dtype=bool)))
    if actions.ndim != 2 or not states.shape == actions.shape == rewards.shape == mask.shape:
        shapes = ", ".join(str(list(x.shape)) for x in (states, actions, rewards, mask))
        raise SettingError(f"{name}: states, actions, rewards and mask must have one shape [n, t]; got {shapes}")
    if states.dtype.kind not in "iu" or actions.dtype.kind not in "iu" or mask.dtype != bool:
        raise SettingError(f"{name}: states and actions must be whole numbers and mask true or false")
    if rewards.dtype.kind not in "iuf" or not np.isfinite(rewards[mask]).all():
        raise SettingError(f"{name}: rewards must be finite numbers")
    if (mask[:, 1:] & ~mask[:, :-1]).any():
        episode = int(np.flatnonzero((mask[:, 1:] & ~mask[:, :-1]).any(1))[0])
        raise SettingError(f"{name}: episode {episode} leaves out a step; episodes are whole, from step 0 to their end")
    typed = (states.astype(np.int64), actions.astype(np.int64), rewards.astype(float))
    states, actions, rewards = (np.where(mask, x, 0) for x in typed)
    return Trajectories(states, actions, rewards, mask)
