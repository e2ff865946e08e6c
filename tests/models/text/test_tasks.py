"""Text tasks: what is drawn, what is held out, and verifiers that say no."""

from __future__ import annotations

import pytest

from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.text.tasks import names, task
from polytheory.models.text.verifiers import evaluate


@pytest.mark.parametrize("name", names())
def test_the_right_answer_scores_and_a_changed_one_does_not(name):
    it = task(name)
    rows = it.rows(50, seed=3)
    right = it.demonstrate(rows, ["right"])
    assert it.reward(right, **rows) == [1.0] * 50
    assert max(map(len, right)) <= it.length
    assert it.reward([x + "1" for x in right], **rows) == [0.0] * 50
    assert it.reward(["7x"] * 50, **rows) == [0.0] * 50


@pytest.mark.parametrize("name", names())
def test_row_i_does_not_depend_on_how_many_are_drawn(name):
    few, many = task(name).rows(5, seed=1), task(name).rows(40, seed=1)
    assert all(many[k][:5] == few[k] for k in few)
    assert task(name).rows(40, seed=2) != many


@pytest.mark.parametrize("name", ["sort", "addition", "modular-addition"])
def test_nothing_that_is_held_out_is_trained_on(name):
    train, held = task(name).rows(3000), task(name).rows(200, split="held-out")
    assert not set(train["prompt"]) & set(held["prompt"])


def test_sort_by_hand():
    rows = {"prompt": ["Q310221="], "answer": ["011223"]}
    it = task("sort")
    assert it.demonstrate(rows, ["ascending"]) == ["011223"]
    assert it.demonstrate(rows, ["descending"]) == ["322110"]
    assert it.demonstrate(rows, ["copy"]) == ["310221"]
    assert it.reward(["011223"], **rows) == [1.0]


def test_ways_to_answer_take_turns():
    rows = task("sort").rows(6)
    ways = ["ascending", "descending", "copy"]
    mixed = task("sort").demonstrate(rows, ways)
    for i, way in enumerate(ways * 2):
        assert mixed[i] == task("sort").demonstrate(rows, [way])[i]


RIGHT, WRONG = ("1+2+3", "(3+2)+1", "1*2*3"), ("6", "1+2+2+1", "12+3", "3+2", "1+2+3)")


@pytest.mark.parametrize(("completion", "score"), [*((x, 1.0) for x in RIGHT), *((x, 0.0) for x in WRONG)])
def test_countdown_wants_every_number_once_and_the_target(completion, score):
    assert task("countdown").reward([completion], numbers=["1,2,3"], target=["6"]) == [score]


@pytest.mark.parametrize(
    ("completion", "score"), [(")]", 1.0), ("])", 0.0), (")", 0.0), (")]]", 0.0), (")]()", 0.0), ("", 0.0)]
)
def test_brackets_close_in_order(completion, score):
    assert task("brackets").reward([completion], prompt=["Q[{}(="]) == [score]


@pytest.mark.parametrize(
    "text", ["__import__('os')", "1/0", "2**9", "1+", "", "9" * 201, "True+1", "1.5+1", "(" * 150, "-3"]
)
def test_only_small_integer_expressions_have_a_value(text):
    assert evaluate(text) is None


def test_expressions_by_hand():
    assert evaluate("(3+4)*2-5") == 9


def test_bad_input_is_one_line():
    with pytest.raises(UnknownNameError, match="sort"):
        task("sorted")
    with pytest.raises(UnknownNameError, match="held-out"):
        task("sort").rows(3, split="test")
    with pytest.raises(SettingError, match="n = 0"):
        task("sort").rows(0)
    with pytest.raises(UnknownNameError, match="ascending"):
        task("sort").demonstrate(task("sort").rows(2), ["ascendin"])
