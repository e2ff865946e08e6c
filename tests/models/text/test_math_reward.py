"""Rewards for mathematics against answers that a reader can judge, and for the form of an answer."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from polytheory.errors import MissingExtraError
from polytheory.models.text.math_reward import SECONDS, math_reward, think_format

RIGHT = [
    ("48 / 2 = 24 clips in May.\n#### 72", "So she sold 72."),
    ("48 / 2 = 24 clips in May.\n#### 72", "48/2=24 and 24+48=72"),
    ("#### 1,000", "She earns $1,000."),
    ("#### 1,000", "reasoning about 7 things\n#### 1000"),
    ("#### 18", "The answer is $18$."),
    ("42", "42.0"),
    ("-3", "#### -3"),
    ("1/2", "0.5"),
    ("\\frac{1}{2}", "\\boxed{0.5}"),
    ("$x^2 + 1$", "\\boxed{1 + x^2}"),
    ("blue", " blue\n"),
]
WRONG = [
    ("48 / 2 = 24 clips in May.\n#### 72", "24"),  # a number of the solution, not its result
    ("#### 72", "72 + 1 = 73"),
    ("#### 5", "5 apples of 7"),
    ("42", "#### 41"),
    ("42", "The answer is 42. #### 41"),
    ("-3", "3"),
    ("42", ""),
    ("blue", "red"),
    ("$x^2 + 1$", "\\boxed{x^2 - 1}"),
]


@pytest.mark.parametrize(("pairs", "score"), [(RIGHT, 1.0), (WRONG, 0.0)])
def test_the_final_result_counts_by_its_value(pairs, score):
    answers, completions = zip(*pairs, strict=True)
    assert math_reward(completions, answer=answers) == [score] * len(pairs)


def test_numbers_of_a_data_set_may_be_numbers():
    assert math_reward(["7", "8"], answer=[7, 7.0], prompt=["", ""]) == [1.0, 0.0]


def test_a_formula_that_takes_for_ever_is_wrong():
    start = time.monotonic()
    assert math_reward(["\\boxed{9^{9^{9^{9}}}}"], answer=["42"]) == [0.0]
    assert time.monotonic() - start < 20 * SECONDS


def test_it_works_in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(math_reward(["7"], answer=["7.0"])))
    thread.start()
    thread.join()
    assert found == [[1.0]]


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(MissingExtraError, match=r"polytheory\[math\]"):
        math_reward(["7"], answer=["8"])


def test_thinking_stands_once_and_first():
    good = ["<think>a</think>b", " \n<think>\na\n</think>\n\n4"]
    bad = [
        "b",
        "<think>a</think>",
        "<think>a</think>\n",
        "a<think>a</think>b",
        "<think>a<think></think>b",
        "<think>a</think>b</think>",
    ]
    assert think_format(good + bad) == [1.0] * len(good) + [0.0] * len(bad)
