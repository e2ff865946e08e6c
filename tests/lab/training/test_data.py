"""Data and rewards of a recipe: columns, system prompts, held-out rows, and functions that do not do what they should."""

from __future__ import annotations

import json
import sys

import pytest

from polytheory.access.language import WeightedReward
from polytheory.errors import ColumnError, MissingExtraError, SettingError, UnknownNameError
from polytheory.lab.training.data import demonstrations, load
from polytheory.lab.training.recipe import Problem, read
from polytheory.lab.training.rewards import function, rewards

CHAT = [{"role": "user", "content": "2?"}]


def problem(tmp_path, rows, **settings):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Problem("", str(path), **{"reward": ("exact-match",), "completion_length": 4, **settings})


def questions(n):
    return [{"question": f"{i}?", "solution": f"{i}", "id": i} for i in range(n)]


NAMED = {"prompt_column": "question", "answer_column": "solution"}


def test_columns_get_the_names_that_rewards_know(tmp_path):
    found = load(problem(tmp_path, questions(10), held_out=4, **NAMED), 0)
    rows = {k: found.train[k] + found.held_out[k] for k in found.train}
    assert set(rows) == {"prompt", "answer", "id"}
    assert sorted(rows["id"]) == list(range(10))
    for part in (found.train, found.held_out):
        assert part["prompt"] == [f"{i}?" for i in part["id"]]
        assert part["answer"] == [f"{i}" for i in part["id"]]


@pytest.mark.parametrize(("n", "given", "kept"), [(10, 0, 1), (40, 0, 4), (6000, 0, 500), (40, 7, 7), (2, 0, 1)])
def test_held_out_rows_are_spread_and_the_same_for_every_seed(tmp_path, n, given, kept):
    found = [load(problem(tmp_path, questions(n), held_out=given, **NAMED), seed) for seed in (0, 1)]
    held = found[0].held_out["id"]
    assert len(held) == kept
    assert held == sorted(held)
    assert not set(held) & set(found[0].train["id"])
    assert (found[0].train, found[0].held_out) == (found[1].train, found[1].held_out)
    if kept > 3:
        assert held != list(range(n - kept, n))
        assert min(held) < n / 2 < max(held)


def test_texts_become_messages_behind_the_system_prompt(tmp_path):
    def prompts(row, **settings):
        return load(problem(tmp_path, [row] * 2, **settings), 0).train["prompt"][0]

    text, chat = {"prompt": "2?", "answer": "2"}, {"prompt": CHAT, "answer": "2"}
    own = [{"role": "system", "content": "mine"}, *CHAT]
    told = [{"role": "system", "content": "Be brief."}, *CHAT]
    assert prompts(text) == "2?"
    assert prompts(text, chat=True) == CHAT
    assert prompts(text, system_prompt="Be brief.") == told
    assert prompts(chat, system_prompt="Be brief.") == told
    assert prompts({"prompt": own, "answer": "2"}, system_prompt="Be brief.") == own


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (None, "prompt 0 is None"),
        ("", "prompt 0 is ''"),
        (3, "a prompt is a text"),
        ([], "prompt 0"),
        (["hello"], "list of messages"),
        ([{"role": "user"}], "list of messages"),
        ([{"role": "user", "content": [{"type": "image"}]}], "list of messages"),
        ([*CHAT, {"role": "assistant", "content": "2"}], "ends with a message of the assistant"),
    ],
)
def test_a_prompt_that_is_none_is_named(tmp_path, prompt, text):
    with pytest.raises(ColumnError, match=text):
        load(problem(tmp_path, [{"prompt": prompt, "answer": "2"}] * 2), 0)


def test_bad_columns_and_sizes_are_one_line(tmp_path):
    for settings, error, text in (
        ({}, ColumnError, "prompt_column="),
        ({"prompt_column": "query"}, ColumnError, "the data has question"),
        ({**NAMED, "held_out": 3}, SettingError, "held_out = 3 of 3 rows"),
        ({**NAMED, "completion_length": 0}, SettingError, "completion_length=256"),
        ({**NAMED, "reward": ()}, SettingError, "reward=math"),
    ):
        with pytest.raises(error, match=text):
            load(problem(tmp_path, questions(3), **settings), 0)
    for name in ({"subset": "main"}, {"chat": True}, {"system_prompt": "x"}):
        with pytest.raises(SettingError, match="is for data"):
            load(Problem(**name), 0)


def test_what_a_warm_start_imitates(tmp_path):
    rows = {"prompt": ["1?"], "answer": ["1"], "completion": ["one"]}
    data = Problem("", "x.jsonl")
    assert demonstrations(data, rows, ())["completion"] == ["one"]
    assert demonstrations(data, rows, ("answer",))["completion"] == ["1"]
    for ways in (("nothing",), ("answer", "completion")):
        with pytest.raises(ColumnError, match="name one column"):
            demonstrations(data, rows, ways)
    task = Problem("sort")
    assert demonstrations(task, {"prompt": ["Q201=", "Q201=", "Q201="], "answer": ["012"] * 3}, ())["completion"] == [
        "012",
        "210",
        "201",
    ]


def test_data_takes_the_place_of_the_task_and_the_other_way():
    assert read("grpo", {"data": "x.jsonl"}).problem.task == ""
    assert read("gsm8k").problem.task == ""
    assert (read("gsm8k", {"task": "copy"}).problem.task, read("gsm8k", {"task": "copy"}).problem.data) == ("copy", "")


def test_a_task_knows_what_the_tiny_model_needs():
    found = read("grpo", {"task": "sort-skill"})
    assert (found.start.sft_steps, found.output.steps) == (40, 400)
    assert read("grpo", {"task": "sort-skill", "steps": 3}).output.steps == 3
    assert (read("grpo").start.sft_steps, read("grpo").output.steps) == (120, 60)
    assert (
        read("grpo", {"model": "somewhere"}).start.sft_steps == 0
    )  # 2e-3 is no step size for a model that knows a lot
    with pytest.raises(UnknownNameError, match="sort"):
        read("grpo", {"task": "sorting"})


def test_rewards_by_name_have_names_that_differ():
    found = rewards(Problem(reward=("math", "os.path:split", "shlex:split"), reward_weights=(1.0, 0.5, 2.0)))
    assert [(r.name, r.weight) for r in found] == [("math", 1.0), ("os.path.split", 0.5), ("shlex.split", 2.0)]
    with pytest.raises(SettingError, match="twice"):
        rewards(Problem(reward=("math", "math")))
    with pytest.raises(UnknownNameError, match="'math'"):
        function("maths")
    with pytest.raises(SettingError, match=r"without \.py: mine:score"):
        function("mine.py:score")


def test_a_reward_whose_package_is_missing_is_said_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(MissingExtraError, match=r"polytheory\[math\]"):
        rewards(Problem(reward=("math",)))


def test_a_module_that_fails_when_imported_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    (tmp_path / "failing_rewards.py").write_text("x = 1\ny = 1 / 0\n")
    (tmp_path / "broken_rewards.py").write_text("def f(:\n")
    with pytest.raises(SettingError, match=r"ZeroDivisionError.*line 2"):
        function("failing_rewards:f")
    with pytest.raises(SettingError, match="SyntaxError"):
        function("broken_rewards:f")
    (tmp_path / "good_rewards.py").write_text("def f(completions):\n    return [1.0] * len(completions)\n")
    assert function("good_rewards:f")(["a"]) == [1.0]
    sys.modules.pop("good_rewards")


COLUMNS = {"prompt": ["p", "q"], "answer": ["1", "2"]}


def call(f):
    reward = WeightedReward("mine", f)
    reward.check(list(COLUMNS))
    return list(reward(["a", "bc"], COLUMNS))


def test_functions_take_what_they_name():
    assert call(lambda texts: [len(x) for x in texts]) == [1.0, 2.0]
    assert call(lambda completions, answer: [float(a) for a in answer]) == [1.0, 2.0]
    assert call(lambda completions, **columns: [len(columns)] * 2) == [2.0, 2.0]
    # as functions written for TRL have it: prompts first, by keyword
    assert call(lambda prompts, completions, **columns: [ord(prompts[0]) + len(c) for c in completions]) == [
        113.0,
        114.0,
    ]


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda: [1.0, 2.0], "takes no completions"),
        (lambda completions, target: [1.0, 2.0], "needs the column 'target'"),
        (lambda completions, answer: [x["a"] for x in answer], "raised TypeError.*test_data.py"),
        (lambda completions: 1.0, "raised TypeError"),
        (lambda completions: ["right", "wrong"], "raised ValueError"),
        (dict, "no signature"),
    ],
)
def test_functions_that_fail_are_named(f, text):
    with pytest.raises(ColumnError, match=text) as found:
        call(f)
    assert "\n" not in str(found.value)
