"""The driver's loop: budgets, status, callbacks, interrupts, and exact resume."""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import Countdown, HiddenAttribute, HiddenGenerator, Learner, TorchLearner, chain

from polytheory.access import KnownModel, Online
from polytheory.conformance.resume import assert_resume_exact
from polytheory.errors import (
    AccessError,
    CheckpointError,
    DivergedError,
    NoSignalError,
    OutOfMemoryError,
    SettingError,
    StorageError,
)
from polytheory.run import Status, run

TOYS = Path(__file__).with_name("toys.py")


def online():
    return Online(chain())


def test_steps_are_a_total_and_the_status_says_so():
    end = run(Learner(), online(), steps=4)
    assert (end.steps, end.status, end.state.step) == (4, Status.STEPS, 4)
    assert end.meter.total("episodes") == 4 * 3
    np.testing.assert_array_equal(end.policy.table, Learner().policy(end.state).table)


def test_zero_steps_return_the_fresh_state():
    end = run(Learner(), online(), steps=0)
    assert (end.steps, end.status, end.state.step, end.history.names) == (0, "steps", 0, ())


@pytest.mark.parametrize(("episodes", "steps_run"), [(0, 0), (1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_no_step_starts_past_the_episodes(episodes, steps_run):
    end = run(Learner(batch=3), online(), episodes=episodes)
    assert (end.status, end.steps) == ("episodes", steps_run)


def test_episodes_are_counted_from_the_start_of_this_run():
    access = online()
    run(Learner(), access, steps=5)
    assert run(Learner(), access, episodes=6).steps == 2


def test_a_planner_runs_until_done_and_running_out_first_is_a_status():
    access = KnownModel(chain())
    assert run(Countdown(n=5), access).status == "done"
    assert run(Countdown(n=5), access, steps=5).status == "done"
    short = run(Countdown(n=5), access, steps=4)
    assert (short.status, short.steps) == ("steps", 4)


def test_a_learner_without_a_budget_is_refused():
    with pytest.raises(SettingError, match=r"pass steps=\.\.\. or episodes="):
        run(Learner(), online())


@pytest.mark.parametrize("bad", [{"steps": -1}, {"steps": True}, {"episodes": -3}])
def test_a_bad_budget_is_refused(bad):
    with pytest.raises(SettingError, match="integer >= 0"):
        run(Learner(), online(), **bad)


def test_grants_come_first():
    with pytest.raises(AccessError, match="MODEL"):
        run(Countdown(), online(), steps=-1)


def test_callbacks_see_every_step_and_may_stop():
    seen, others = [], []

    def stop(state, info, step):
        seen.append((step, state.step, info["return"]))
        return np.bool_(step == 2)

    end = run(Learner(), online(), steps=10, callbacks=(stop, lambda state, info, step: others.append(step)))
    assert (end.status, end.steps) == ("callback", 3)
    assert [(a, b) for a, b, _ in seen] == [(0, 1), (1, 2), (2, 3)]
    assert others == [0, 1, 2]


def test_a_number_is_no_request_to_stop():
    assert run(Learner(), online(), steps=3, callbacks=[lambda *_: 1]).steps == 3


def test_a_run_that_a_callback_ended_stays_ended(tmp_path):
    def stop(state, info, step):
        return step == 2

    for _ in range(2):
        end = run(Learner(), online(), steps=10, callbacks=[stop], checkpoint=tmp_path)
        assert (end.status, end.steps) == ("callback", 3)
    assert run(Learner(), online(), steps=10, checkpoint=tmp_path).steps == 10


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_resume_is_exact(steps):
    assert_resume_exact(Learner, online, steps)


def test_resume_is_exact_with_modules_optimisers_and_dropout():
    assert_resume_exact(TorchLearner, online, 4)


def test_resume_is_exact_for_a_planner_that_ends_early():
    assert assert_resume_exact(Countdown, lambda: KnownModel(chain()), 4).status == "done"


@pytest.mark.parametrize("hidden", [HiddenGenerator, HiddenAttribute])
def test_state_kept_outside_the_state_is_found(hidden):
    with pytest.raises(AssertionError, match="after a resume at step 3"):
        assert_resume_exact(hidden, online, 3)


def test_dropout_would_differ_without_a_new_key_for_each_step(monkeypatch):
    monkeypatch.setattr("polytheory.run._rekey", lambda *_: None)
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match="after a resume"):
        assert_resume_exact(TorchLearner, online, 4)


def test_the_steps_of_an_interval_are_kept(tmp_path):
    run(Learner(), online(), steps=7, checkpoint=tmp_path, every="2 steps")
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-000000000006", "step-000000000007"]
    assert (tmp_path / "latest").read_text() == "step-000000000007"


def test_more_episodes_after_a_resume_count_from_step_0(tmp_path):
    access = online()
    run(Learner(), access, steps=2)  # spends episodes before the run that is saved
    run(Learner(), access, episodes=6, checkpoint=tmp_path)
    assert run(Learner(), online(), episodes=12, checkpoint=tmp_path).steps == 4


def test_resume_choices(tmp_path):
    saved, other = tmp_path / "saved", tmp_path / "other"
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        run(Learner(), online(), steps=2, checkpoint=saved, resume=True)
    run(Learner(), online(), steps=2, checkpoint=saved, resume=False)
    with pytest.raises(CheckpointError, match="not empty"):
        run(Learner(), online(), steps=2, checkpoint=saved, resume=False)
    with pytest.raises(SettingError, match="without checkpoint"):
        run(Learner(), online(), steps=2, resume=True)
    end = run(Learner(), online(), steps=4, checkpoint=other, resume=saved, every=1)
    whole = run(Learner(), online(), steps=4, checkpoint=tmp_path / "whole")
    np.testing.assert_array_equal(end.state.theta, whole.state.theta)
    assert (other / "history.jsonl").read_bytes() == (tmp_path / "whole" / "history.jsonl").read_bytes()
    # the command that began from another folder goes on from its own when typed again
    assert run(Learner(), online(), steps=6, checkpoint=other, resume=saved).steps == 6


def test_going_back_to_an_earlier_checkpoint(tmp_path):
    whole = run(Learner(), online(), steps=6, checkpoint=tmp_path, every=3)
    history = (tmp_path / "history.jsonl").read_bytes()
    again = run(Learner(), online(), steps=6, checkpoint=tmp_path, every=3, resume=tmp_path / "step-000000000003")
    np.testing.assert_array_equal(whole.state.theta, again.state.theta)
    assert (tmp_path / "history.jsonl").read_bytes() == history


def command(folder: Path, name: str = "learner", steps: int = 150, every: str = "1ms") -> list[str]:
    return [sys.executable, str(TOYS), name, str(folder), str(steps), every]


def finish(folder: Path) -> str:
    done = subprocess.run(command(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_killed_at_any_moment_and_typed_again(tmp_path):
    """12 kills -9 at moments spread over start, steps, saves and pruning: the end is that of a run never killed."""
    whole = finish(tmp_path / "whole")
    killed, kills = tmp_path / "killed", 0
    waits = np.random.default_rng(0)
    while kills < 12:
        process = subprocess.Popen(command(killed), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # "ready": imports are done, the run begins
        time.sleep(waits.uniform(0.0, 0.05))
        if process.poll() is not None:
            break  # reached the end: no more to kill
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 10
    assert finish(killed) == whole
    assert (killed / "history.jsonl").read_bytes() == (tmp_path / "whole" / "history.jsonl").read_bytes()
    assert not list(killed.glob("tmp-*"))


def test_ctrl_c_finishes_the_step_and_saves(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, "slow", 50, "1h"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    status, steps = out.split()[:2]
    assert (process.returncode, status) == (0, "interrupted"), err
    assert (tmp_path / "latest").read_text() == f"step-{int(steps):012d}"
    assert 0 < int(steps) < 50


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, "stuck", 50, "1h"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    for _ in range(2):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    assert not (tmp_path / "latest").exists()


def test_the_handler_of_ctrl_c_is_given_back():
    before = signal.getsignal(signal.SIGINT)
    run(Learner(), online(), steps=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_watcher_measures_is_kept_with_the_step():
    seen = []

    def measure(state, info, step):
        return {"extra": 2.0 * step}

    def look(state, info, step):
        seen.append((info["extra"], float(info["meter/episodes"][0])))

    end = run(Learner(batch=2), online(), steps=3, watchers=[measure], callbacks=[look])
    assert end.history.column("extra")[:, 0].tolist() == [0.0, 2.0, 4.0]
    assert seen == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]


class Breaks(Learner):
    """Fails in its fifth step, as often as it is tried."""

    def __init__(self, error):
        super().__init__()
        object.__setattr__(self, "error", error)

    def step(self, state, access):
        if state.step == 4:
            raise self.error
        return super().step(state, access)


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (
            DivergedError("loss nan"),
            DivergedError,
            "loss nan; kept: .*step-000000000003, from which the same call goes on",
        ),
        (MemoryError(), OutOfMemoryError, "out of memory: MemoryError; take smaller batches; kept: .*step-0*3"),
        (
            RuntimeError("you tried to allocate 9 bytes: not enough memory\nmore"),
            OutOfMemoryError,
            "9 bytes: not enough",
        ),
        (RuntimeError("something else"), RuntimeError, "^something else$"),
    ],
)
def test_a_failure_names_the_checkpoint_and_the_history_goes_up_to_it(raised, expected, text, tmp_path):
    for _ in range(2):  # typed again, it goes on from the checkpoint and fails at the same place
        with pytest.raises(expected, match=text):
            run(Breaks(raised), online(), steps=8, checkpoint=tmp_path, every=3)
        assert (tmp_path / "latest").read_text() == "step-000000000003"
        rows = (tmp_path / "history.jsonl").read_text().splitlines()
        assert [json.loads(row)["step"] for row in rows] == [0, 1, 2, 3]
    with pytest.raises(expected):
        run(Breaks(raised), online(), steps=8)


def test_what_a_callback_stops_is_in_the_history(tmp_path):
    def refuse(state, info, step):
        if step == 2:
            raise NoSignalError("enough")

    with pytest.raises(NoSignalError, match=f"enough; no step had been saved to {tmp_path} yet"):
        run(Learner(), online(), steps=8, checkpoint=tmp_path, callbacks=[refuse])
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 3


def _fill_the_disk(folder, largest, told):
    """A run whose files may not grow: the kernel refuses, as it does on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    with pytest.raises(StorageError) as found:
        run(TorchLearner(), online(), steps=90, checkpoint=folder, every=1)
    told.send(str(found.value))


@pytest.mark.parametrize("which", ["tensors.safetensors", "state.json", "history.jsonl"])
def test_a_disk_that_refuses_leaves_the_last_checkpoint(which, tmp_path):
    run(TorchLearner(), online(), steps=4, checkpoint=tmp_path, every=1)
    file = next(tmp_path.glob(which), tmp_path / "step-000000000004" / which)
    mine, theirs = multiprocessing.Pipe()
    # history grows, the others keep their size
    largest = 2 * max(x.stat().st_size for x in tmp_path.rglob("*")) if "history" in which else file.stat().st_size - 1
    child = multiprocessing.get_context("fork").Process(target=_fill_the_disk, args=(tmp_path, largest, theirs))
    child.start()
    assert mine.poll(60)
    said = mine.recv()
    child.join()
    assert "cannot write" in said
    assert ("history.jsonl" in said) == ("history" in which)
    assert "File too large" in said
    assert f"kept: {tmp_path}/{(tmp_path / 'latest').read_text()}, from which the same call goes on" in said
    assert not list(tmp_path.glob("tmp-*"))
    # the disk has room again: the same call goes on, to the end of an undisturbed run
    end, alone = (run(TorchLearner(), online(), steps=90, checkpoint=place, every=50) for place in (tmp_path, None))
    name = end.history.names[0]
    assert end.history.column(name).tolist() == alone.history.column(name).tolist()
    assert torch.equal(end.state.theta, alone.state.theta)
