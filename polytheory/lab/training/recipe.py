"""A recipe: one flat file whose keys are the fields of a few small dataclasses and of the method.

A key belongs to whoever has a field of that name, so that there is nothing to learn beside the classes themselves. An
unknown key is an error with the nearest name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from polytheory.catalog import find
from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.text.tasks import task
from polytheory.scaled.language.adapters import Lora
from polytheory.scaled.language.design import RewardDesign
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.optimiser import AdamW, Harpg, NPgIgt, Sgd
from polytheory.scaled.language.samplers.base import Sampling

OPTIMISERS: dict[str, Any] = {"adamw": AdamW, "sgd": Sgd, "n-pg-igt": NPgIgt, "harpg": Harpg}
SHIPPED = files("polytheory") / "recipes"


@dataclass(frozen=True)
class Problem:
    """What is asked and what is rewarded.

    Fields:
        task: a built-in task with its verifier, see `polytheory.models.text.tasks`; "" with ``data``.
        data: a JSON Lines or Parquet file, a folder, or the name of a data set on the hub; "" with ``task``.
        split: of ``data``, such as "train[:1000]". subset: of a data set that has several, such as "main" of openai/gsm8k.
        prompt_column, answer_column: columns of ``data`` that are known as ``prompt`` and ``answer`` from then on.
        system_prompt: first message of every prompt that has no system message; "" for none.
        chat: texts become messages of a user (with a system prompt always); False gives the text to the model as it is.
        rows: of a task, >= 1.
        held_out: rows kept for evaluation, never trained on; 0 for 500, or a tenth of the data where that is less.
        reward: any of "math", "exact-match", "in-place", "think-format", or functions ``module:function`` called as
            ``f(completions, **columns)``; empty for the task's verifier.
        reward_weights: one factor each; empty for ones.
        completion_length: longest completion in tokens, >= 1; 0 for the task's own.
        prompt_length: longest prompt in tokens; 0 allows any.
    """

    task: str = "sort"
    data: str = ""
    split: str = "train"
    subset: str = ""
    prompt_column: str = "prompt"
    answer_column: str = "answer"
    system_prompt: str = ""
    chat: bool = False
    rows: int = 20_000
    held_out: int = 0
    reward: tuple[str, ...] = ()
    reward_weights: tuple[float, ...] = ()
    completion_length: int = 0
    prompt_length: int = 0


@dataclass(frozen=True)
class Start:
    """The model, and the supervised steps before reinforcement learning.

    Fields:
        model: "tiny" for a transformer made here, or a path or hub name for transformers.
        dtype: "float32" or "bfloat16". device: where it runs, "" for the GPU of this process, else the CPU.
        shard: several processes split the weights, gradients and optimiser state (FSDP2) instead of holding a copy each.
        trust_remote_code: let a model's own code run; off unless asked for.
        temperature: of sampling and log-probs, > 0.
        demonstrations: what the warm start imitates: names of the task's demonstrations in turn, or one column of ``data``;
            empty for the task's own, or the column ``completion``.
        sft_steps: supervised updates, >= 0; for the tiny model a task has its own number.
        sft_step_size, sft_warm_up, sft_batch: their AdamW.
    """

    model: str = "tiny"
    dtype: str = "float32"
    device: str = ""
    shard: bool = False
    trust_remote_code: bool = False
    temperature: float = 1.0
    demonstrations: tuple[str, ...] = ()
    sft_steps: int = 0
    sft_step_size: float = 2e-3
    sft_warm_up: int = 20
    sft_batch: int = 128


@dataclass(frozen=True)
class Output:
    """How long, where to, and how often.

    Fields:
        steps: of reinforcement learning in all, >= 1; for the tiny model a task has its own number.
        seed: of every random number.
        output: folder of checkpoints, history and the trained model; the same command goes on from there.
        every: how often to save. evaluate_every: steps between evaluations, 0 for start and end only.
        report_to: any of "tensorboard", "wandb", "trackio", several with commas; the history is always kept in ``output``.
        probe_every: steps between exact probes of the recipe's gradient, see `polytheory.lab.training.probe`; 0 for none.
        patience: successive steps without any difference in reward after which training ends with an error; 0 for never.
        decay: "cosine" (the rate falls to ``floor`` at the last step) or "constant"; for AdamW.
        follow: how the gradient is followed, "adamw", "sgd", "n-pg-igt" or "harpg"; its fields are keys of the recipe.
    """

    steps: int = 60
    seed: int = 0
    output: str = "runs/train"
    every: str = "60s"
    evaluate_every: int = 0
    report_to: tuple[str, ...] = ()
    probe_every: int = 0
    patience: int = 20
    decay: str = "cosine"
    follow: str = "adamw"


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe. Fields: ``method`` name and ``settings`` of it, and the sections whose fields are the keys."""

    name: str
    method: str
    settings: Mapping[str, Any]
    problem: Problem = field(default_factory=Problem)
    start: Start = field(default_factory=Start)
    lora: Lora = field(default_factory=Lora)
    optimiser: Mapping[str, Any] = field(default_factory=dict)
    driver: Mapping[str, Any] = field(default_factory=dict)
    output: Output = field(default_factory=Output)
    sampling: Sampling = field(default_factory=Sampling)
    design: RewardDesign = field(default_factory=RewardDesign)

    def algorithm(self) -> type:
        """The method's class in the scaled room. Raises `SettingError` for a method that trains no language model."""
        return method_class(self.method)

    def flat(self) -> dict[str, Any]:
        """Every key that the recipe sets or has a default for, as a flat file would hold them."""
        sections = (self.problem, self.start, self.lora, self.output, self.sampling, self.design)
        own = {f.name: getattr(x, f.name) for x in sections for f in fields(x)}
        return {"method": self.method, **self.settings, **self.optimiser, **self.driver, **own}


def names() -> tuple[str, ...]:
    """The recipes that come with the library."""
    return tuple(sorted(x.name.removesuffix(".toml") for x in SHIPPED.iterdir() if x.name.endswith(".toml")))


def read(source: str = "grpo", changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by the name of a shipped one or the path of a file, with some keys changed.

    Raises `UnknownNameError` for a recipe, method or key; `SettingError` for a file that is no TOML, or a value of the wrong
    kind.
    """
    if source.endswith(".toml"):
        path: Any = Path(source)
        if not path.exists():
            raise SettingError(f"there is no recipe {source}; give a TOML file, or one of {', '.join(names())}")
    elif source in names():
        path = SHIPPED / f"{source}.toml"
    else:
        raise UnknownNameError("recipe", source, names())
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{source} is not a TOML file: {error}") from error
    tables = [k for k, v in given.items() if isinstance(v, dict)]
    if tables:
        raise SettingError(f"{source} has a table [{tables[0]}]; a recipe is flat: write key = value only")
    changes = changes or {}
    for here, others in (("task", ("data", "subset", "system_prompt", "chat")), ("data", ("task", "subset", "split"))):
        for other in others if changes.get(here) else ():
            given.pop(other, None)  # it went with the file's own problem
    return resolve(Path(source).stem, {**given, **changes})


def resolve(name: str, given: Mapping[str, Any]) -> Recipe:
    """A recipe from its keys; errors as in `read`."""
    given = _with_defaults(given)
    method = given.pop("method", "grpo")
    settings = {f.name: f for f in fields(method_class(method)) if f.name not in ("policy", "step_size")}
    follow = given.get("follow", "adamw")
    if follow not in OPTIMISERS:
        raise UnknownNameError("follow", follow, OPTIMISERS)
    follows = OPTIMISERS[follow]
    homes: dict[str, tuple[str, Any]] = {
        **{f.name: ("settings", f) for f in settings.values()},
        **{f.name: ("optimiser", f) for f in fields(follows) if f.name != "total"},
        **{f.name: ("driver", f) for f in fields(Finetune) if f.name not in ("method", "optimiser", "train_copy")},
        **{f.name: (where, f) for where, cls in _SECTIONS.items() for f in fields(cls)},
    }
    parts: dict[str, dict[str, Any]] = {k: {} for k in ("settings", "optimiser", "driver", *_SECTIONS)}
    for key, value in given.items():
        if key not in homes:
            raise UnknownNameError("key of a recipe", key, ("method", *homes))
        where, f = homes[key]
        parts[where][key] = _of_kind(key, value, f)
    made = {where: cls(**parts[where]) for where, cls in _SECTIONS.items()}
    recipe = Recipe(name, method, parts["settings"], optimiser=parts["optimiser"], driver=parts["driver"], **made)
    follows(**recipe.optimiser)  # its own checks
    return recipe


def _with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys with those that hang on others: data stands in the place of the task; a task knows what the tiny model needs."""
    given = dict(given)
    if given.get("data"):
        given.setdefault("task", "")
    name = given.get("task", Problem.task)
    if name and given.get("model", Start.model) == Start.model and isinstance(name, str):
        it = task(name)
        given = {"sft_steps": it.sft_steps, "steps": it.steps, **given}
    return given


def method_class(method: str) -> type:
    """The scaled class of a post-training method. Raises `UnknownNameError`, or `SettingError` for another family."""
    entry = find(method)
    if entry.family != "posttraining":
        if method in names():
            raise SettingError(f"{method} is a recipe here, not a method of training; type polytheory train {method}")
        raise SettingError(f"{method} is a method of the family {entry.family!r}; training takes one of {_trainable()}")
    return getattr(import_module(f"polytheory.scaled.posttraining.{entry.stem}"), entry.algorithms[0])


def _trainable() -> str:
    from polytheory.catalog import methods

    return ", ".join(entry.name for entry in methods() if entry.family == "posttraining")


_SECTIONS: dict[str, Any] = {
    "problem": Problem, "start": Start, "lora": Lora, "output": Output, "sampling": Sampling,
    "design": RewardDesign,
}  # fmt: skip


def _of_kind(key: str, value: Any, f: Any) -> Any:
    """``value`` as the kind of the field's default; a list becomes a tuple, one text a tuple of one."""
    default = f.default if f.default is not MISSING else None
    if "None" in str(f.type) and str(value).lower() == "none":
        return None
    if isinstance(default, tuple):
        items = value if isinstance(value, list | tuple) else str(value).split(",") if value != "" else ()
        try:
            return tuple(float(x) if "float" in str(f.type) else str(x) for x in items)
        except ValueError as error:
            raise SettingError(f"{key} = {value!r} must be numbers with commas between them") from error
    if default is None:
        return tuple(value) if isinstance(value, list) else value
    kinds: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}
    allowed = kinds.get(type(default), (type(default),))
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        what = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[type(default)]
        raise SettingError(f"{key} = {value!r} must be {what}; its default is {default!r}")
    return float(value) if isinstance(default, float) else value
