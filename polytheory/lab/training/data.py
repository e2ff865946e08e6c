"""What a recipe trains on: rows of a built-in task or of a data set, held-out rows beside them, and rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory.access.language import WeightedReward
from polytheory.errors import ColumnError, SettingError
from polytheory.lab.training.recipe import Problem
from polytheory.lab.training.rewards import rewards as rewards_of
from polytheory.lab.training.rows import Rows, read_rows
from polytheory.models.text.tasks import task
from polytheory.streams import uniforms

HELD_OUT = 500  # rows, where the recipe does not say


@dataclass(frozen=True)
class Data:
    """What a recipe trains on: ``train`` and ``held_out`` columns, ``rewards``, ``completion_length`` in tokens."""

    train: Rows
    held_out: Rows
    rewards: tuple[WeightedReward, ...]
    completion_length: int


def load(problem: Problem, seed: int) -> Data:
    """The data of a recipe.

    Raises `SettingError`, `ColumnError`, `UnknownNameError` when something is missing, before any work.
    """
    if bool(problem.task) == bool(problem.data):
        raise SettingError(
            f"task = {problem.task!r} and data = {problem.data!r}; give one of them, and '' for the other"
        )
    rewards = rewards_of(problem)
    return _from_task(problem, rewards, seed) if problem.task else _from_data(problem, rewards)


def _from_task(problem: Problem, rewards: tuple[WeightedReward, ...], seed: int) -> Data:
    for name in ("subset", "system_prompt", "chat"):
        if getattr(problem, name):
            raise SettingError(f"{name} = {getattr(problem, name)!r} is for data; a task writes its own prompts")
    it = task(problem.task)
    train = it.rows(problem.rows, seed=seed)
    held = it.rows(problem.held_out or HELD_OUT, split="held-out", seed=seed)
    own = rewards or (WeightedReward("right", it.reward),)
    return Data(train, held, own, problem.completion_length or it.length + 1)


def _from_data(problem: Problem, rewards: tuple[WeightedReward, ...]) -> Data:
    if not rewards:
        raise SettingError(
            "data without reward; give reward=math (compares results with the column 'answer'), exact-match, or "
            "module:function, called with completions and columns"
        )
    if problem.completion_length < 1:
        raise SettingError(
            f"completion_length = {problem.completion_length}; with data, say how many tokens a completion may have, such as "
            "completion_length=256"
        )
    rows = _named(read_rows(problem.data, problem.split, problem.subset), problem)
    rows["prompt"] = messages(rows["prompt"], problem)
    n = len(rows["prompt"])
    k = problem.held_out or min(HELD_OUT, max(1, n // 10))
    if not 1 <= k < n:
        raise SettingError(f"held_out = {k} of {n} rows; keep at least one row on either side")
    # the same rows whatever the seed of the run, spread over the data: many files are sorted
    held = set(np.argsort(uniforms(0, "held-out", 0, np.arange(n), 1)[:, 0])[:k].tolist())
    parts = ([i for i in range(n) if i not in held], sorted(held))
    train, held_out = ({name: [x[i] for i in part] for name, x in rows.items()} for part in parts)
    return Data(train, held_out, rewards, problem.completion_length)


def _named(rows: Rows, problem: Problem) -> Rows:
    """The rows with the columns ``prompt`` and ``answer`` under these names."""
    for name, given in (("prompt", problem.prompt_column), ("answer", problem.answer_column)):
        if given == name:
            continue
        if given not in rows:
            raise ColumnError(f"{name}_column = {given!r}; the data has {', '.join(rows)}")
        rows = {name: rows[given], **{k: x for k, x in rows.items() if k not in (given, name)}}
    if "prompt" not in rows:
        raise ColumnError(
            f"the data has no column 'prompt', it has {', '.join(rows)}; say which with prompt_column=..."
        )
    return rows


def messages(prompts: Sequence[Any], problem: Problem) -> list[Any]:
    """Prompts as a recipe wants them: as they are, or texts as a user's message, behind the system prompt.

    A prompt that has a system message keeps it. Raises `ColumnError` for a prompt that is neither a text nor a list of
    messages.
    """
    found = []
    for i, prompt in enumerate(prompts):
        chat: Any
        if isinstance(prompt, str) and prompt:
            chat = [{"role": "user", "content": prompt}] if problem.chat or problem.system_prompt else prompt
        elif isinstance(prompt, list) and prompt and all(map(_is_message, prompt)):
            chat = [{"role": m["role"], "content": m["content"]} for m in prompt]
            if chat[-1]["role"] == "assistant":
                raise ColumnError(f"prompt {i} ends with a message of the assistant; end it with the user's")
        else:
            raise ColumnError(
                f"prompt {i} is {repr(prompt)[:60]}; a prompt is a text, or a list of messages "
                "{'role': 'user', 'content': 'text'}"
            )
        if problem.system_prompt and chat[0]["role"] != "system":
            chat = [{"role": "system", "content": problem.system_prompt}, *chat]
        found.append(chat)
    return found


def _is_message(x: Any) -> bool:
    return isinstance(x, dict) and isinstance(x.get("role"), str) and isinstance(x.get("content"), str)


def demonstrations(problem: Problem, rows: Rows, ways: Sequence[str]) -> Rows:
    """``rows`` with a column ``completion``: of a task, the named ways in turn (its own where none is named); of ``data``,
    the one column that is named, or ``completion``.

    Raises `ColumnError` where ``data`` has no such column, `UnknownNameError` where a task has no such way.
    """
    if problem.task:
        it = task(problem.task)
        return {**rows, "completion": it.demonstrate(rows, ways or it.imitate)}
    name = ways[0] if len(ways) == 1 else "completion"
    if len(ways) > 1 or name not in rows:
        raise ColumnError(
            f"a warm start with demonstrations = {list(ways)}: name one column of the data to imitate, of {', '.join(rows)}; "
            "or sft_steps=0"
        )
    return {**rows, "completion": rows[name]}
