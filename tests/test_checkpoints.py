"""Checkpoints on disk: what damage, mismatch and odd settings do."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from toys import HiddenGenerator, Learner, TorchLearner, chain

from polytheory import checkpoints
from polytheory.access import Online
from polytheory.checkpoints import Every, describe
from polytheory.errors import CheckpointError, SettingError
from polytheory.policies import TabularPolicy
from polytheory.run import run


def online(S: int = 4):
    return Online(chain(S))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    run(TorchLearner(), online(), steps=3, checkpoint=folder, every=1)
    return folder


def resume(folder):
    return run(TorchLearner(), online(), steps=5, checkpoint=folder)


def test_the_folder_holds_no_pickles_and_two_checkpoints(saved):
    assert sorted(p.name for p in saved.iterdir()) == [
        "history.jsonl",
        "latest",
        "step-000000000002",
        "step-000000000003",
    ]
    names = {p.name for p in (saved / "step-000000000003").iterdir()}
    assert names == {"manifest.json", "state.json", "arrays.npz", "tensors.safetensors"}


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "arrays.npz", "tensors.safetensors"])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "empty"])
def test_a_damaged_file_is_an_error_that_names_it(saved, tmp_path, name, harm):
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    hurt(folder / "step-000000000003" / name, harm)
    with pytest.raises(CheckpointError) as caught:
        resume(folder)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    if not (name == "manifest.json" and harm == "remove"):
        assert "step-000000000002" in str(caught.value)  # the way out
    assert run(TorchLearner(), online(), steps=5, checkpoint=folder, resume=folder / "step-000000000002").steps == 5


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_a_damaged_history_is_an_error(saved, tmp_path, harm):
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    hurt(folder / "history.jsonl", harm)
    with pytest.raises(CheckpointError, match=r"history\.jsonl"):
        resume(folder)


def hurt(path, harm: str) -> None:
    data = path.read_bytes()
    if harm == "remove":
        path.unlink()
    elif harm == "flip":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        path.write_bytes(data[: len(data) // 2] if harm == "truncate" else b"")


def test_an_edited_setting_in_the_manifest_is_an_error(saved, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    path = folder / "step-000000000003" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["body"]["step"] = 2
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="damaged"):
        resume(folder)


def test_a_format_of_another_version_is_refused(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    with pytest.raises(CheckpointError, match="has format 1; this version reads format 2"):
        resume(saved)


def test_rows_after_the_checkpoint_are_cut_off(saved, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"step": 3, "val')  # killed while writing
    resume(folder)
    steps = [json.loads(line)["step"] for line in (folder / "history.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "its seed is 0, this run's is 1"),
        ({"replica": 2}, "its replica is 0, this run's is 2"),
        ({"algorithm": Learner(step_size=0.2)}, "its setting step_size is 0.1, this run's is 0.2"),
        ({"algorithm": HiddenGenerator()}, "its algorithm is .*Learner, this run's is .*HiddenGenerator"),
        ({"access": online(5)}, "its world S is 4, this run's is 5"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, words):
    run(Learner(), online(), steps=2, checkpoint=tmp_path)
    options = {"algorithm": Learner(), "access": online(), "steps": 4, "checkpoint": tmp_path, **change}
    with pytest.raises(CheckpointError, match=words):
        run(**options)
    assert run(Learner(), online(), steps=4, checkpoint=tmp_path).steps == 4


def test_of_a_long_setting_only_the_difference_is_told(tmp_path):
    weights = ", ".join(f"layer {i}: float32[64, 64]" for i in range(50))

    @dataclass(frozen=True)
    class Named(Learner):
        network: str = ""

    run(Named(network=f"Net({weights}, route='a')"), online(), steps=2, checkpoint=tmp_path)
    with pytest.raises(CheckpointError) as caught:
        run(Named(network=f"Net({weights}, route='bcd')"), online(), steps=4, checkpoint=tmp_path)
    told = str(caught.value).replace(str(tmp_path), "")
    assert "route='a')" in told
    assert "route='bcd')" in told
    assert "layer 47" not in told
    assert len(told) < 300


def test_a_killed_save_is_cleaned_up_by_the_next(tmp_path):
    (tmp_path / "tmp-step-000000000001").mkdir()
    (tmp_path / "step-000000000002").mkdir()  # renamed, but never published
    (tmp_path / "step-000000000002" / "junk").write_text("half")
    end = run(Learner(), online(), steps=2, checkpoint=tmp_path)
    assert end.steps == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["history.jsonl", "latest", "step-000000000002"]
    assert run(Learner(), online(), steps=3, checkpoint=tmp_path).steps == 3


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file"):
        run(Learner(), online(), steps=2, checkpoint=tmp_path / "file")


@dataclass(frozen=True)
class Odd(Learner):
    """Puts something into the state that no file can hold."""

    thing: Any = None

    def step(self, state, access):
        state, info = super().step(state, access)
        state.seen = [self.thing]
        return state, info


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (np.random.default_rng(0), r"state\.seen\[0\] is a Generator, which cannot be saved"),
        (np.array([object()]), r"state\.seen\[0\] is an array of Python objects"),
        ({1, 2}, r"state\.seen\[0\] is a set"),
        (TabularPolicy(np.ones((1, 1))), r"state\.seen\[0\] is a TabularPolicy, but was absent in the fresh state"),
        (torch.zeros(2, requires_grad=True) * 2, r"state\.seen\[0\] carries an autograd graph"),
        ({(1, 2): 3}, r"state\.seen\[0\] has the key \(1, 2\)"),
    ],
)
def test_what_cannot_be_restored_is_refused_when_saved(tmp_path, thing, words):
    with pytest.raises(CheckpointError, match=words):
        run(Odd(thing=thing), online(), steps=1, checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("text", "steps", "seconds"),
    [("30s", None, 30), ("5m", None, 300), ("2h", None, 7200), ("20ms", None, 0.02), ("1.5 m", None, 90),
     ("100 steps", 100, None), ("1 step", 1, None), (7, 7, None), ("0s", None, 0)],
)  # fmt: skip
def test_intervals(text, steps, seconds):
    assert Every.parse(text) == Every(steps, None if seconds is None else float(seconds))


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "0 steps", 0, -1, True, "1.5 steps", "5 minutes ago"])
def test_bad_intervals(text):
    with pytest.raises(SettingError, match="use a time such as '30s'"):
        Every.parse(text)


@dataclass(frozen=True)
class Settings:
    a: Any = None
    b: Any = field(default_factory=dict)


class Plain:
    """An ordinary class, with what it computes on the way kept aside."""

    def __init__(self, x: float, used: bool = False):
        self.x = np.full(2, x)
        self._calls = int(used)
        if used:
            assert self.total == 2 * x

    @cached_property
    def total(self) -> float:
        return float(self.x.sum())


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (1, 1.0), (1, "1"), (0.1, float(np.nextafter(0.1, 1))), (None, "None"), ((1, 2), [1, 2]), ({"k": 1}, {"k": 2}),
        (np.zeros(2), np.zeros(3)), (np.zeros(2), np.zeros(2, dtype=int)), (np.zeros(2), np.array([0.0, 1e-300])),
        (torch.zeros(2), torch.ones(2)), (np.zeros(1), torch.zeros(1)), (chain, online), (float("nan"), 0.0),
        (TabularPolicy(np.eye(2)), TabularPolicy(np.eye(2)[::-1])), (Settings(a=1), Settings(a=2)),
        (torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1)), (Plain(1), Plain(2)),
    ],
)  # fmt: skip
def test_settings_are_told_apart(x, y):
    assert describe(Settings(x)) != describe(Settings(y))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (0.1, np.float64(0.1)), (np.arange(3.0), np.arange(3.0)), (frozenset("ab"), frozenset("ba")),
        (TabularPolicy(np.eye(2)), TabularPolicy(np.eye(2))), (chain(), chain()), (torch.ones(2), torch.ones(2)),
        (torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)), (Plain(1), Plain(1, used=True)),
    ],
)  # fmt: skip
def test_equal_settings_are_equal_texts(x, y):
    assert describe(Settings(x)) == describe(Settings(y))
