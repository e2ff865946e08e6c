"""Every claim of the catalog holds in its rooms, with shrinking; its mutants fit the code; the rooms agree step by step.

That every mutant is caught is what ``polytheory verify`` checks; CI runs it on all methods (``make demo``).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

from polytheory.catalog import methods
from polytheory.errors import SettingError
from polytheory.lab.verify import verify_jobs
from polytheory.proofs_check import runner
from polytheory.proofs_check._mutants import check_fits
from polytheory.proofs_check._rooms import Room
from polytheory.proofs_check.claims import Line, Wrap, claims_of

for _entry in methods():
    runner.load_method(_entry.name)

CASES = [
    pytest.param(entry, c, room, id=f"{entry.name}-{c.name}-{room}")
    for entry in methods()
    for c in claims_of(entry.name)
    for room in c.rooms
]
DEMOS = [
    pytest.param(entry.name, demo, id=f"{entry.name}-{demo.algorithm}-{demo.environment}")
    for entry in methods()
    for demo in runner.demos_of(entry.name)
]


@pytest.mark.parametrize(("entry", "c", "name"), CASES)
def test_claim_holds(entry, c, name):
    room = Room(name, entry.family, entry.name)

    def holds(instance):
        margin = c.check(instance, room)
        assert margin.holds, f"margin {margin.slack} below -{margin.tolerance}: {c.statement}"

    for instance in c.worked():
        holds(instance)
    if c.generated is not None:
        settings(max_examples=runner.EXAMPLES["test"])(given(c.generated())(holds))()
    elif not c.worked():
        holds(None)


@pytest.mark.parametrize("entry", methods(), ids=lambda entry: entry.name)
def test_every_mutant_is_one_of_the_code_as_it_stands(entry):
    for c in claims_of(entry.name):
        for room in c.rooms:
            for broken in c.breaks_in(room):
                check_fits(room, entry.family, entry.name, broken)


def test_a_mutant_of_text_that_is_gone_does_not_fit():
    for gone in (Line("gone", old="no such line", new=""), Wrap("gone", part="no_such_part", by=lambda f: f)):
        with pytest.raises(SettingError, match="break 'gone'"):
            check_fits("reference", "planning", "planning", gone)


def test_verify_shows_every_claim_its_mutants():
    """They are shown nowhere else."""
    jobs = verify_jobs([entry.name for entry in methods()])
    shown = {(job.method, job.what) for job in jobs if isinstance(job.what, str) and job.mutants}
    assert shown == {(entry.name, c.name) for entry in methods() for c in claims_of(entry.name)}
    assert "make demo\n" in (Path(__file__).parents[2] / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize(("method", "demo"), DEMOS)
def test_rooms_agree_step_by_step(method, demo):
    result = runner.lockstep(method, demo)
    assert result.fields
    assert result.holds, f"{result.worst} differs by {result.error} > {result.tolerance}"


def test_every_method_has_claims_and_demonstrations():
    for entry in methods():
        assert claims_of(entry.name), entry.name
        assert runner.demos_of(entry.name), entry.name
