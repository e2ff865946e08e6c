"""How results add up: once a claim, once a mutant, and never well when something is missing."""

from __future__ import annotations

import pytest
from verifications import claim_result, demo_record, verification

from polytheory.lab.records import Lockstep
from polytheory.lab.summary import failures, row_of
from polytheory.proofs_check.runner import MutantResult

YES, NO = MutantResult("a", True, "margin"), MutantResult("a", False, "survived 3 instances")
OTHER = MutantResult("b", True, "margin")


def record(**changes):
    return verification(**changes).methods[0]


def test_claims_and_mutants_count_once_for_all_rooms():
    claims = [
        claim_result("one", "reference", mutants=[YES, OTHER]),
        claim_result("one", "scaled", mutants=[YES]),
        claim_result("two", "reference", mutants=[YES]),
    ]
    found = row_of(record(claims=claims))
    assert (found["claims"], found["claims_held"]) == (2, 2)
    assert (found["mutants"], found["mutants_caught"]) == (3, 3)
    assert found["passed"] is True
    assert failures(record(claims=claims)) == []


@pytest.mark.parametrize("rooms", [("reference", "scaled"), ("scaled", "reference")])
def test_one_room_is_enough_to_fail(rooms):
    claims = [claim_result("one", rooms[0], mutants=[YES]), claim_result("one", rooms[1], holds=False, mutants=[NO])]
    found = row_of(record(claims=claims))
    assert (found["claims_held"], found["mutants_caught"], found["passed"]) == (0, 0, False)
    lines = failures(record(claims=claims))
    assert len(lines) == 2
    assert all(rooms[1] in line and "one" in line for line in lines)


def test_mutants_of_one_name_in_two_claims_are_two():
    claims = [claim_result("one", mutants=[YES]), claim_result("two", mutants=[NO])]
    found = row_of(record(claims=claims))
    assert (found["mutants"], found["mutants_caught"]) == (2, 1)


def lock(error, holds):
    return demo_record(lockstep=Lockstep(error, 1e-11, 5, 3, ["state.v"], "state.v", holds))


@pytest.mark.parametrize(
    ("demos", "error", "passed"),
    [
        ([lock(1e-15, True), lock(1e-13, True)], 1e-13, True),
        ([lock(1e-15, True), lock(1e-3, False)], 1e-3, False),
        ([lock(1e-15, True), lock(None, False)], None, False),  # not comparable is not small
        ([lock(1e-15, True), demo_record(lockstep=None)], None, False),
        ([], None, False),
    ],
)
def test_the_lock_step_error_is_the_worst(demos, error, passed):
    found = row_of(record(demos=demos))
    assert (found["lockstep_error"], found["passed"]) == (error, passed)


def test_samples_add_up_over_demonstrations():
    found = row_of(record(demos=[demo_record(), demo_record(episodes=5, transitions=7)]))
    assert (found["episodes"], found["transitions"]) == (15, 207)


@pytest.mark.parametrize("change", [{"claims": []}, {"demos": []}, {"errors": ["taxi crashed"]}])
def test_what_is_missing_fails(change):
    found = record(**change)
    assert not row_of(found)["passed"]
    assert len(failures(found)) == 1
    assert failures(found)[0].startswith("planning: ")


def test_a_crash_is_one_line():
    (line,) = failures(record(claims=[claim_result(holds=False, margin=None, error="ValueError: a\nb", mutants=[])]))
    assert "\n" not in line
    assert "crashed: ValueError: a b" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": 1.001}, "more than the optimum"),
        ({"value": 0.999}, "the policy found loses 0.001, certified was 2e-07"),
        ({"value": float("nan")}, "more than the optimum"),
    ],
)
def test_a_demonstration_that_contradicts_its_oracle_fails(change, message):
    lines = failures(record(demos=[demo_record(**change)]))
    assert lines
    assert message in lines[0]
    assert not failures(record(demos=[demo_record(value=1.0 - 1e-7)]))
    assert not failures(record(demos=[demo_record(value=0.2, bound=None)]))
