"""Exercises: right answers pass, and every typical mistake is named."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.conformance import grade
from polytheory.conformance.exercises import exercise, names
from polytheory.errors import UnknownNameError

MISTAKES = [(name, told) for name in names() for told in exercise(name).mistakes]


@pytest.mark.parametrize("name", names())
def test_the_references_answer_is_right(name):
    verdict = grade(exercise(name).right, name)
    assert verdict, verdict.message
    assert str(verdict).startswith(f"{name}: right.")


@pytest.mark.parametrize(("name", "told"), MISTAKES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(MISTAKES)])
def test_a_typical_mistake_is_named(name, told):
    verdict = grade(exercise(name).mistakes[told], name)
    assert not verdict
    assert verdict.mistake == told
    assert told[1:] in str(verdict)
    assert verdict.instance is not None


def test_an_unknown_mistake_is_shown_on_the_smallest_instance():
    def backup(P, r, v, gamma):
        return (r + gamma * P @ v).max(-1) + (len(v) == 1)  # wrong for one state only

    verdict = grade(backup, "bellman-backup")
    assert not verdict
    assert verdict.mistake == ""
    # one state, r = -2, v = 3, gamma = .5: -2 + 1.5 = -.5, and 1 too much
    assert (verdict.expected.tolist(), verdict.got.tolist()) == ([-0.5], [0.5])
    assert "answer[0] is 0.5, it should be -0.5" in str(verdict)
    assert "gamma = 0.5" in str(verdict)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda P, r, v, gamma: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda P, r, v, gamma: r + gamma * P @ v, "The shape is [2, 2], it should be [2]"),
        (lambda P, r, v, gamma: "0.656", "returned str"),
        (lambda P, r, v, gamma: np.full(len(v), np.nan), "answer[0] is nan"),
        (lambda P, r, gamma: None, "raised TypeError"),
        (lambda P, r, v, gamma: np.negative(v, out=v), "changed its argument v"),
    ],
)
def test_what_is_no_answer_is_told(function, said):
    assert said in grade(function, "bellman-backup").message


def test_a_function_in_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def loss(ratio, advantage, eps):\n    return -ratio * advantage\n")
    verdict = grade(f"{file}:loss", "clipped-loss")
    assert verdict.mistake == "is nothing clipped"


def test_an_unknown_exercise():
    with pytest.raises(UnknownNameError, match="bellman-backup"):
        grade(abs, "belman-backup")
