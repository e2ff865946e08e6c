"""Every claim of the catalog holds in its rooms, with shrinking; every mutant is caught; the rooms agree step by step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from polytheory.catalog import methods
from polytheory.proofs_check import runner
from polytheory.proofs_check._rooms import Room
from polytheory.proofs_check.claims import claims_of

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
        settings(max_examples=runner.EXAMPLES["full"])(given(c.generated())(holds))()
    elif not c.worked():
        holds(None)


@pytest.mark.parametrize(("entry", "c", "name"), CASES)
def test_every_mutant_is_caught(entry, c, name):
    instances = runner.instances_of(c, runner.EXAMPLES["verify"])
    shown = [runner.show_mutant(c, name, b, instances) for b in c.breaks_in(name)]
    assert shown
    assert not [f"{m.name}: {m.how}" for m in shown if not m.caught]


@pytest.mark.parametrize(("method", "demo"), DEMOS)
def test_rooms_agree_step_by_step(method, demo):
    result = runner.lockstep(method, demo)
    assert result.fields
    assert result.holds, f"{result.worst} differs by {result.error} > {result.tolerance}"


def test_every_method_has_claims_and_demonstrations():
    for entry in methods():
        assert claims_of(entry.name), entry.name
        assert runner.demos_of(entry.name), entry.name
