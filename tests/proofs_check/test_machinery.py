"""The claim machinery itself: it must not pass what it cannot check."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from polytheory.errors import NotStochasticError, SettingError, UnknownNameError
from polytheory.proofs_check import runner
from polytheory.proofs_check._rooms import Room
from polytheory.proofs_check.claims import Claim, Level, Line, Margin, Setting, Wrap, claim

P = np.array([[[0.9, 0.1]], [[0.7, 0.3]]])
r = np.array([[0.1], [0.5]])
v = np.array([1.0, 2.0])


def backup_by_sums(instance, room):
    """The Bellman backup against explicit sums over successors."""
    gamma = 0.8
    q = room.parts.q_values(P, r, v, gamma=gamma)
    expected = [[r[s, 0] + gamma * sum(P[s, 0, y] * v[y] for y in range(2))] for s in range(2)]
    return Margin.equal(q, expected, 1e-15 * 8)


def make(check, *breaks, rooms=("reference",), **options) -> Claim:
    made = {
        "name": check.__name__, "method": "planning", "source": "test", "level": Level.PROPERTY,
        "statement": "test", "check": check,
        "breaks": breaks, "rooms": rooms, "worked": lambda: (), "generated": None, "catches": (),
    }  # fmt: skip
    return Claim(**{**made, **options})


def shown(c: Claim, room="reference"):
    return [runner.show_mutant(c, room, b, runner.instances_of(c, 0)) for b in c.breaks_in(room)]


def test_a_true_claim_holds_and_a_wrapped_part_is_caught():
    result = runner.check_claim(
        make(backup_by_sums, Wrap("sign", "q_values", lambda f: lambda *a, **k: -f(*a, **k))), "reference", [None]
    )
    assert result.holds
    assert result.passed
    assert result.mutants[0].caught


def test_a_mutant_that_changes_nothing_survives_and_fails_the_claim():
    c = make(backup_by_sums, Wrap("same", "q_values", lambda f: lambda *a, **k: f(*a, **k)))
    result = runner.check_claim(c, "reference", [None])
    assert result.holds
    assert not result.passed
    assert "survived" in result.mutants[0].how


def test_a_crash_is_not_a_catch():
    def broken(f):
        return lambda *a, **k: undefined_name

    (mutant,) = shown(make(backup_by_sums, Wrap("crash", "q_values", broken)))
    assert not mutant.caught
    assert "NameError" in mutant.how


def test_only_declared_errors_count_as_caught():
    def raises(f):
        def g(*a, **k):
            raise NotStochasticError("no")

        return g

    (undeclared,) = shown(make(backup_by_sums, Wrap("raises", "q_values", raises)))
    (declared,) = shown(make(backup_by_sums, Wrap("raises", "q_values", raises), catches=(NotStochasticError,)))
    assert not undeclared.caught
    assert declared.caught


def test_nan_neither_holds_nor_counts_as_caught():
    assert not Margin(float("nan"), 1.0).holds
    (mutant,) = shown(make(backup_by_sums, Wrap("nan", "q_values", lambda f: lambda *a, **k: f(*a, **k) * np.nan)))
    assert not mutant.caught


def test_a_line_must_occur_exactly_once():
    absent = Line("absent", module="bellman", old="this text is nowhere", new="")
    often = Line("often", module="bellman", old="gamma", new="")
    for mutant in shown(make(backup_by_sums, absent, often)):
        assert not mutant.caught
        assert "exactly once" in mutant.how


def test_breaking_leaves_the_real_modules_alone():
    import polytheory.reference.planning as package
    import polytheory.reference.planning.bellman as bellman

    before = {n: m for n, m in sys.modules.items() if n.startswith("polytheory.")}
    broken = Room("reference", "planning", "planning", Wrap("sign", "q_values", lambda f: lambda *a, **k: -f(*a, **k)))
    after = {n: m for n, m in sys.modules.items() if n.startswith("polytheory.")}
    assert before == after
    assert sys.modules["polytheory.reference"].planning is package
    assert broken.part("q_values") is not bellman.q_values
    np.testing.assert_array_equal(broken.parts.q_values(P, r, v, gamma=0.8), -bellman.q_values(P, r, v, gamma=0.8))
    # a part that another module of the family imported is broken there too
    np.testing.assert_array_equal(
        broken.part("greedy_backup")(P, r, v, gamma=0.8), -bellman.greedy_backup(P, r, v, gamma=0.8)
    )


def test_a_claim_without_a_break_is_refused():
    with pytest.raises(SettingError, match="no break for the scaled room"):
        claim(
            method="planning", source="x", level=Level.PROPERTY, statement="x",
            breaks=[Line("only_reference", old="a", new="b", room="reference")],
        )(backup_by_sums)  # fmt: skip


def test_equality_of_unequal_shapes_is_an_error():
    with pytest.raises(SettingError, match="one shape"):
        Margin.equal(np.zeros(2), np.zeros((2, 1)), 1.0)


def test_a_setting_replaces_a_hyperparameter_and_must_exist():
    room = Room("reference", "planning", "planning", Setting("loose", tol=0.5))
    assert room.make("ValueIteration", tol=1e-9).tol == 0.5
    with pytest.raises(SettingError, match="no hyper-parameter"):
        Room("reference", "planning", "planning", Setting("none", no_such_field=1)).make("ValueIteration")


def test_unknown_names_say_what_was_meant():
    with pytest.raises(UnknownNameError, match="did you mean 'planning'"):
        runner.load_method("plannning")


def test_the_worst_margin_is_the_one_closest_to_failing():
    trivial, tight, loose, failing = Margin(0.0, 0.0), Margin(-0.9, 1.0), Margin(1.0, 1e-12), Margin(-1e-9, 1e-12)
    assert Margin.worst([trivial, loose]) is loose
    assert Margin.worst([trivial, loose, tight]) is tight
    assert Margin.worst([trivial, loose, tight, failing]) is failing
    assert not Margin.worst([trivial, Margin(float("nan"), 1.0)]).holds


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (np.array([1, 2]), np.array([1, 3]), np.inf),
        (np.array([1.0]), np.array([1.5]), 0.25),
        (np.array([np.nan]), np.array([0.0]), np.inf),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), 0.0),
        (np.array([np.inf]), np.array([-np.inf]), np.inf),
        (np.zeros(2), np.zeros(3), np.inf),
    ],
)
def test_difference_of_fields(a, b, expected):
    assert runner.difference(a, b) == expected
