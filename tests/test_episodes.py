"""Episodes survive a file; files that hold something else are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from polytheory.episodes import read_episodes, write_episodes
from polytheory.errors import SettingError, UnknownNameError
from polytheory.trajectories import Trajectories


def episodes() -> Trajectories:
    return Trajectories(
        states=np.array([[0, 1, 2], [2, 0, 0]]), actions=np.array([[1, 0, 1], [3, 0, 0]]),
        rewards=np.array([[0.5, 0.0, 1.0], [0.25, 0.0, 0.0]]), mask=np.array([[True] * 3, [True, False, False]]),
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_what_is_written_is_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_episodes(path, episodes())
    found = read_episodes(path)
    for name in ("states", "actions", "rewards", "mask"):
        assert_array_equal(getattr(found, name), getattr(episodes(), name))


def test_episodes_of_an_archive_are_whole_without_a_mask(tmp_path):
    e = episodes()
    np.savez(tmp_path / "a.npz", states=e.states, actions=e.actions, rewards=e.rewards)
    assert read_episodes(tmp_path / "a.npz").mask.all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"actions": None}, "no array 'actions'"),
        ({"rewards": np.zeros((2, 2))}, "one shape"),
        ({"states": np.zeros((2, 3))}, "whole numbers"),
        ({"rewards": np.full((2, 3), np.nan)}, "finite"),
        ({"mask": np.array([[True, False, True], [True] * 3])}, "episode 0 leaves out a step"),
        ({"actions": np.array([[None] * 3] * 2)}, "cannot be read"),
    ],
)
def test_other_archives_are_refused(tmp_path, change, expected):
    e = episodes()
    arrays = {"states": e.states, "actions": e.actions, "rewards": e.rewards, "mask": e.mask, **change}
    np.savez(tmp_path / "a.npz", **{name: x for name, x in arrays.items() if x is not None})
    with pytest.raises(SettingError, match=expected):
        read_episodes(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"reward": None}, "no column 'reward'"),
        ({"step": [0, 0]}, "there twice"),
        ({"step": [0, 2]}, "leaves out a step"),
        ({"step": [-1, 0]}, "from 0 on"),
        ({"state": [0.5, 1.0]}, "whole numbers"),
    ],
)
def test_other_tables_are_refused(tmp_path, change, expected):
    import polars

    columns = {"episode": [7, 7], "step": [0, 1], "state": [0, 1], "action": [1, 0], "reward": [0.0, 1.0], **change}
    polars.DataFrame({name: x for name, x in columns.items() if x is not None}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(SettingError, match=expected):
        read_episodes(tmp_path / "a.parquet")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="csv"):
        read_episodes(tmp_path / "a.csv")
    with pytest.raises(SettingError, match="no file"):
        read_episodes(tmp_path / "a.npz")
    for name in ("a.npz", "a.parquet"):
        (tmp_path / name).write_text("nothing of the kind")
        with pytest.raises(SettingError, match="cannot be read"):
            read_episodes(tmp_path / name)
