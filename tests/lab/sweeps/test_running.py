"""Sweeps: seeds, rooms, shards, backends, failures, damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pytest
import sweep_measures
from joblib.externals.loky import get_reusable_executor
from polars.testing import assert_frame_equal

from polytheory.access.defaults import default_access
from polytheory.errors import MissingExtraError, RunError, SettingError, UnknownNameError
from polytheory.lab.sweeps import Study, collect, standing
from polytheory.lab.sweeps.running import run_study
from polytheory.models import make
from polytheory.reference.exploration.baselines import Ucbvi
from polytheory.run import run as run_alone

TINY = Study(
    name="tiny",
    methods=[{"name": "optimistic-actor-critic", "algorithm": "Ucbvi"}],
    environments=[{"name": "baited-lock", "options": {"H": [1, 2]}}],
    seeds=3,
    episodes=4,
    measure=["suboptimality", "regret", "switches"],
    room="reference",
)
NORA = replace(TINY, methods=["optimistic-actor-critic"], episodes=12, room="scaled")


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "cells").glob("*.parquet")}


def run(study, folder, **options):
    options = {"backend": "serial", "progress": False, **options}
    return run_study(study, folder, **options)


@pytest.mark.parametrize("study", [TINY, NORA], ids=["reference", "lock-step"])
def test_more_seeds_leave_the_first_ones_as_they_are(tmp_path, study):
    run(study, tmp_path / "a")
    before, first = files(tmp_path / "a"), collect(tmp_path / "a")
    end = run(replace(study, seeds=5), tmp_path / "a")
    assert (end.found, sum(job.count for job in end.jobs)) == (6, 4)  # two cells: 3 seeds each there, 2 each new
    assert before.items() <= files(tmp_path / "a").items()
    assert_frame_equal(collect(tmp_path / "a").filter(pl.col("seed") < 3), first, check_exact=True)
    # also where all five were run at once
    run(replace(study, seeds=5), tmp_path / "b")
    assert_frame_equal(collect(tmp_path / "b"), collect(tmp_path / "a"), check_exact=True)


def test_fewer_seeds_are_a_part_of_what_is_there(tmp_path):
    run(replace(NORA, seeds=5), tmp_path)
    end = run(NORA, tmp_path)
    assert end.jobs == []
    assert collect(tmp_path)["seed"].unique().sort().to_list() == [0, 1, 2]


def test_more_cells_leave_the_others_as_they_are(tmp_path):
    run(TINY, tmp_path)
    before, first = files(tmp_path), collect(tmp_path)
    more = replace(TINY, environments=[{"name": "baited-lock", "options": {"H": [3, 1, 2]}}, "deep-sea"])
    run(more, tmp_path)
    assert before.items() <= files(tmp_path).items()
    again = collect(tmp_path).filter(pl.col("env.H").is_in([1, 2])).select(first.columns)
    assert_frame_equal(again, first, check_exact=True)


def test_the_rooms_agree_seed_by_seed(tmp_path):
    run(NORA, tmp_path / "scaled")
    run(replace(NORA, room="reference"), tmp_path / "reference")
    many, one = (collect(tmp_path / room) for room in ("scaled", "reference"))
    assert many["room"].unique().to_list() == ["scaled"]
    # values are below 1 and 12 episodes of rounding accumulate: 1e-13 is 450 units in the last place
    assert_frame_equal(many.drop("room"), one.drop("room"), check_exact=False, rel_tol=0, abs_tol=1e-13)


def test_a_longer_budget_goes_on_where_the_shorter_one_ends(tmp_path):
    run(replace(TINY, episodes=[4, 9]), tmp_path)
    table = collect(tmp_path).drop("budget")
    short, long = (table.filter(pl.col("step") <= 4), collect(tmp_path).filter(pl.col("budget") == 9))
    assert long["step"].max() == 9
    for (seed, H), rows in long.filter(pl.col("step") <= 4).group_by("seed", "env.H"):
        own = short.filter((pl.col("seed") == seed) & (pl.col("env.H") == H)).unique(maintain_order=True)
        assert_frame_equal(own, rows.drop("budget").sort("step"), check_exact=True)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_shards_together_are_the_study_and_share_nothing(tmp_path, n):
    jobs = [job for i in range(1, n + 1) for job in run(TINY, tmp_path / "parts", shard=(i, n)).jobs]
    assert len(jobs) == 6
    run(TINY, tmp_path / "whole")
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_a_shard_is_the_same_part_whatever_is_done_already(tmp_path):
    parts = [{job.title for job in run(TINY, tmp_path / str(i), shard=(i, 2)).jobs} for i in (1, 2)]
    run(TINY, tmp_path / "both", shard=(1, 2))
    assert {job.title for job in run(TINY, tmp_path / "both", shard=(2, 2)).jobs} == parts[1]
    assert not parts[0] & parts[1]


def test_worker_processes_write_the_same_files(tmp_path):
    """In lock-step; the failures below see the reference on workers."""
    run(NORA, tmp_path / "serial")
    run(NORA, tmp_path / "loky", backend="loky", jobs=2).check()
    assert files(tmp_path / "serial") == files(tmp_path / "loky")


@pytest.mark.parametrize(("backend", "room"), [("serial", "reference"), ("loky", "reference"), ("serial", "scaled")])
def test_a_failing_seed_is_told_and_the_others_are_kept(tmp_path, backend, room):
    study = replace(TINY, measure=["sweep_measures:fails_at_three"], seeds=5, room=room, block=1)
    end = run(study, tmp_path, backend=backend, jobs=2)
    assert [(f.job.first, f.job.count, f.why) for f in end.failures] == [
        (3, 1, "FloatingPointError: seed three is cursed")
    ] * 2
    assert len(files(tmp_path)) == 8
    with pytest.raises(RunError, match=r"2 failures in 10 jobs.*Ucbvi on baited-lock.*seed 3.*seed three is cursed"):
        end.check()
    for failure in end.failures:
        told = failure.log.read_text()
        assert told.startswith(failure.job.title + "\n")
        assert 'in fails_at_three\n    raise FloatingPointError("seed three' in told  # the line that raised it
    with pytest.warns(UserWarning, match="2 of 10 seeds of 2 cells are missing"):
        assert 3 not in collect(tmp_path)["seed"]
    assert len(run(study, tmp_path, backend=backend, jobs=2).jobs) == 2  # tried again


def test_the_note_of_a_failure_goes_with_the_failure(tmp_path, monkeypatch):
    study = replace(TINY, measure=["sweep_measures:fails_at_three"], seeds=4)
    first, second = run(study, tmp_path).failures
    assert {path.name for path in (tmp_path / "errors").iterdir()} == {first.log.name, second.log.name}
    monkeypatch.setattr(sweep_measures, "fails_at_three", sweep_measures.zeros)
    assert run(study, tmp_path).check().found == 6
    assert list((tmp_path / "errors").iterdir()) == []


def test_a_failure_leaves_the_later_seeds_of_its_block_alone(tmp_path):
    study = replace(TINY, measure=["sweep_measures:fails_at_three"], seeds=6, environments=["baited-lock"], block=6)
    assert [f.job[1:] for f in run(study, tmp_path).failures] == [(3, 1)]
    assert standing(tmp_path).missing == 1
    assert [job[1:] for job in run(study, tmp_path).jobs] == [(3, 1)]


def test_a_killed_sweep_loses_the_running_seed_and_not_its_block(tmp_path):
    """A process that ends in the middle of seed 3 of a block of six."""
    study = replace(TINY, measure=["sweep_measures:exits_at_three"], seeds=6, environments=["baited-lock"], block=6)
    words = "import sweep_kills, sys, pathlib; sweep_kills.serial(sys.argv[1], sys.argv[2])"
    (tmp_path / "study.json").write_text(json.dumps(asdict(study)))
    command = [sys.executable, "-c", words, str(tmp_path / "study.json"), str(tmp_path / "out")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=env, timeout=120, check=False).returncode == 7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_measures, "exits_at_three", sweep_measures.zeros)
        end = run(study, tmp_path / "out").check()
        run(study, tmp_path / "whole")
    assert (end.found, [job[1:] for job in end.jobs]) == (3, [(3, 3)])
    assert [name.split("-")[1:3] for name in files(tmp_path / "whole")] == [["000000", "000006"]]
    assert_frame_equal(collect(tmp_path / "out"), collect(tmp_path / "whole"), check_exact=True)


@pytest.mark.parametrize(
    ("measure", "how", "block"), [("dies_at_three", "SIGKILL(-9)", 1), ("exits_at_three", "EXIT(7)", 6)]
)
def test_a_dying_worker_takes_only_its_own_seed_along(tmp_path, measure, how, block):
    study = replace(TINY, measure=[f"sweep_measures:{measure}"], seeds=6, environments=["baited-lock"], block=block)
    (failure,) = run(study, tmp_path, backend="loky", jobs=2).failures
    assert failure.job[1:] == (3, 1)
    assert failure.why.startswith(f"its process died twice: {how}")
    assert ("out of memory?" in failure.why) == (measure == "dies_at_three")
    assert failure.why in failure.log.read_text()
    assert standing(tmp_path).missing == 1
    before = files(tmp_path)
    again = run(study, tmp_path, backend="loky", jobs=2)
    assert [job[1:] for job in again.jobs] == [(3, 1)]
    assert files(tmp_path) == before


def test_a_worker_that_dies_once_has_a_second_try(tmp_path, monkeypatch):
    get_reusable_executor().shutdown(wait=True)  # workers of an earlier test have an older environment
    monkeypatch.setenv("SWEEP_FLAG", str(tmp_path / "flag"))
    study = replace(TINY, measure=["sweep_measures:exits_once_at_two"], environments=["baited-lock"])
    run(study, tmp_path / "out", backend="loky", jobs=2).check()
    assert (tmp_path / "flag").exists()
    assert standing(tmp_path / "out").missing == 0


def test_ctrl_c_keeps_what_is_done(tmp_path, monkeypatch, listens):
    monkeypatch.setenv("SWEEP_FLAG", str(tmp_path / "flag"))
    study = replace(TINY, measure=["sweep_measures:stops_at_three"], seeds=5, environments=["baited-lock"])
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path / "out")
    assert standing(tmp_path / "out").missing == 2
    assert [job.first for job in run(study, tmp_path / "out").check().jobs] == [3, 4]


def test_damaged_files_are_seen_and_made_again(tmp_path):
    run(TINY, tmp_path)
    before = files(tmp_path)
    short, flipped, empty, _, _, _ = sorted((tmp_path / "cells").glob("*.parquet"))
    short.write_bytes(short.read_bytes()[:-7])
    data = bytearray(flipped.read_bytes())
    data[len(data) // 3] ^= 1
    flipped.write_bytes(data)
    empty.write_bytes(b"")
    with pytest.warns(UserWarning, match="3 of 6 seeds"), pytest.warns(UserWarning, match="3 damaged files"):
        assert collect(tmp_path).select(pl.struct("env.H", "seed").n_unique()).item() == 3
    assert len(run(TINY, tmp_path).jobs) == 3
    assert files(tmp_path) == before


def test_a_changed_study_takes_none_of_the_old_cells(tmp_path):
    run(TINY, tmp_path)
    changed = replace(TINY, methods=[{"name": "optimistic-actor-critic", "algorithm": "Ucbvi", "settings": {"lam": 2}}])
    end = run(changed, tmp_path)
    assert (end.found, end.stale, len(end.jobs)) == (0, 6, 6)
    with pytest.warns(UserWarning, match="6 files belong to cells that the study no longer asks for"):
        table = collect(tmp_path)
    assert table["algo.lam"].unique().to_list() == [2]
    assert standing(tmp_path).missing == 0


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"episodes": 5}, {"density": 3}, {"measure": ["value"]}, {"room": "scaled"}],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_a_number_changes_the_key(change):
    assert not {c.key for c in TINY.cells()} & {c.key for c in replace(TINY, **change).cells()}


def test_the_same_cells_under_another_block_size_need_no_work(tmp_path):
    run(replace(TINY, block=2), tmp_path)
    assert run(replace(TINY, block=3), tmp_path).jobs == []


def test_known_rewards_are_a_knob_and_leave_other_cells_as_they_are(tmp_path):
    """A lock whose treasure is public is climbed sooner; the cells where nothing is public keep their keys and seeds."""

    def study(**known):
        method = {"name": "optimistic-actor-critic", "algorithm": "Ucbvi", **known}
        return replace(TINY, methods=[method], environments=["baited-lock"], seeds=2, measure=["return", "regret"])

    ((plain,), (hidden, public)) = study().cells(), study(known_rewards=[False, True]).cells()
    assert (plain.key, plain.seed) == (hidden.key, hidden.seed)
    assert public.key != hidden.key
    run(study(known_rewards=[False, True]), tmp_path).check()
    table = collect(tmp_path)
    assert table["access.known_rewards"].unique().sort().to_list() == [False, True]
    for cell in (hidden, public):
        world = default_access("Online", make("baited-lock"), known_rewards=cell is public)
        assert (world.spec.r is not None) == (cell is public)
        rows = table.filter((pl.col("access.known_rewards") == (cell is public)) & (pl.col("seed") == 1))
        alone = run_alone(Ucbvi(), world, episodes=4, seed=cell.seed, replica=1, progress=False)
        assert rows["return"].drop_nulls().to_list() == alone.history.column("return")[:, 0].tolist()
    with pytest.raises(SettingError, match=r"known_rewards of the method .* = 'yes'; true, false, or a list of them"):
        study(known_rewards="yes")


def test_one_cell_alone(tmp_path):
    key = TINY.cells()[1].key
    end = run(TINY, tmp_path, only=key[:8])
    assert {job.cell.key for job in end.jobs} == {key}
    with pytest.raises(UnknownNameError, match="unknown cell 'abc'"):
        run(TINY, tmp_path, only="abc")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "lokky"}, "unknown backend 'lokky'; did you mean 'loky'"),
        ({"jobs": 0}, "jobs = 0; at least 1"),
        ({"shard": (0, 4)}, r"shard = \(0, 4\); \(i, n\) with 1 <= i <= n"),
        ({"shard": (5, 4)}, r"shard = \(5, 4\)"),
    ],
)
def test_bad_options_are_told_before_any_work(tmp_path, options, message):
    with pytest.raises((SettingError, UnknownNameError), match=message):
        run(TINY, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_wrong_setting_is_told_before_any_work(tmp_path):
    bad = replace(TINY, methods=[{"name": "optimistic-actor-critic", "settings": {"bonus_scale": [1.0, -1.0]}}])
    with pytest.raises(SettingError, match="bonus_scale = -1"):
        run(bad, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_another_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(SettingError, match="holds something that is no study"):
        run(TINY, tmp_path)
    run(TINY, tmp_path / "a")
    with pytest.raises(SettingError, match="holds the study 'tiny', this one is 'other'"):
        run(replace(TINY, name="other"), tmp_path / "a")


@pytest.mark.parametrize("package", ["polars", "threadpoolctl", "joblib"])
def test_without_the_extra_one_clear_line(tmp_path, monkeypatch, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"this needs {package}.*pip install 'polytheory\[lab\]'"):
        run(TINY, tmp_path, backend="loky")


def test_without_ray_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"this needs ray.*pip install 'polytheory\[ray\]'"):
        run(TINY, tmp_path, backend="ray")


def test_numbers_are_kept_exactly(tmp_path):
    from polytheory.lab.sweeps.cells import Job
    from polytheory.lab.sweeps.work import rows

    run(TINY, tmp_path)
    cell = TINY.cells()[1]
    made = rows(Job(cell, 0, 3))
    kept = collect(tmp_path).filter(pl.col("env.H") == 2)
    np.testing.assert_array_equal(kept["regret"].to_numpy(), made["regret"])
