"""The model and tokenizer of a recipe: made here, or read by transformers; and written at the end as it reads them."""

from __future__ import annotations

import copy
import sys
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from polytheory.errors import PolytheoryError, SettingError, require
from polytheory.lab.training.recipe import Start
from polytheory.scaled.language.adapters import Lora, adapted, add_adapters, merged
from polytheory.scaled.language.reward_model import RewardModel
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model

DTYPES = ("float32", "bfloat16")


def make_model(start: Start, lora: Lora, seed: int, device: str) -> tuple[Any, Any]:
    """Model and tokenizer; the tokenizer pads on the left and has a padding token.

    Raises `SettingError` for a model that transformers cannot load, or whose log-probs cannot be computed here.
    """
    model, tokenizer = _load(start, seed)
    if lora.lora_rank:
        add_adapters(model, lora, seed)
    return model.to(device), tokenizer


def _load(start: Start, seed: int) -> tuple[Any, Any]:
    if start.dtype not in DTYPES:
        raise SettingError(f"dtype = {start.dtype!r}; use {' or '.join(map(repr, DTYPES))}")
    dtype = getattr(torch, start.dtype)
    if start.model == "tiny":
        tokenizer = character_tokenizer()
        return tiny_model(len(tokenizer), seed=seed).to(dtype), tokenizer
    transformers = require("transformers", "lm")
    require("transformers.utils.logging", "lm").disable_progress_bar()  # it would draw over the live table
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            start.model, padding_side="left", trust_remote_code=start.trust_remote_code
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(
            start.model, dtype=dtype, trust_remote_code=start.trust_remote_code
        )
    except Exception as error:  # whatever a folder that is no model, or a model's own code, makes transformers raise
        if "custom code" in str(error) and not start.trust_remote_code:
            raise SettingError(
                f"model = {start.model!r} brings code of its own; read it, and let it run with trust_remote_code=true"
            ) from error
        raise SettingError(
            f"model = {start.model!r} cannot be loaded: {_one_line(error)}; give a folder, or a name on the hub that can be "
            "reached"
        ) from error
    check_model(model, tokenizer, start.model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked wherever it stands
    return model, tokenizer


def check_model(model: Any, tokenizer: Any, name: str) -> None:
    """Raise `SettingError` for a pair that would train on wrong numbers, or fail late."""
    if tokenizer.eos_token_id is None and not ends(model, tokenizer):
        raise SettingError(f"the tokenizer of {name} has no end-of-text token; completions could not end")
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise SettingError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens, its model {rows} embeddings; they do not belong together"
        )
    if "position_ids" not in signature(model.base_model.forward).parameters:
        raise SettingError(
            f"{name} is a {type(model).__name__}, which takes no position_ids; padded prompts need them, try another model"
        )
    ids = torch.tensor([[0, 1 % rows, 0, 1 % rows]])
    with torch.no_grad():
        direct = model(input_ids=ids).logits.float()
        states = model.base_model(input_ids=ids).last_hidden_state
        gap = float((model.get_output_embeddings()(states).float() - direct).abs().max())
    # the same products in the same dtype: without soft caps and scales the gap is none, or a rounding of bfloat16
    if not gap <= 1e-2 * float(1 + direct.abs().max()):
        raise SettingError(
            f"{name} changes its logits after the output layer (by {gap:.3g}: a soft cap or a scale), which the log-probs here "
            "do not follow; try another model"
        )


def ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that end a completion: the tokenizer's end-of-text token first, then those that the model generates up to.

    Chat models often have two, such as <|im_end|> for a turn and <|endoftext|> for a text.
    """
    found = [tokenizer.eos_token_id]
    told = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found += told if isinstance(told, list | tuple) else [told]
    return tuple(dict.fromkeys(int(x) for x in found if x is not None))


def limit(model: Any) -> int:
    """Most tokens of a text: positions that the model has."""
    return getattr(model.config, "max_position_embeddings", None) or sys.maxsize


def count(model: Any) -> str:
    """How many weights there are, and how many of them are trained where not all are."""
    size = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{size:,} parameters" + (f" ({trained:,} trained)" if trained < size else "")


def save_model(trained: Any, folder: Path) -> None:
    """The model and tokenizer as transformers reads them; adapters merged, as they are, or both (then in ``adapter``).

    Raises `PolytheoryError` when the disk refuses.
    """
    require("transformers.utils.logging", "lm").disable_progress_bar()
    places = {folder: trained.model}
    if adapted(trained.model) and trained.recipe.lora.lora_save != "adapter":
        places = {folder: merged(trained.model)}
        if trained.recipe.lora.lora_save == "both":
            places[folder / "adapter"] = trained.model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers about itself, where it writes adapters
            for place, model in places.items():
                model.save_pretrained(place)
        trained.tokenizer.save_pretrained(folder)
    except OSError as error:
        raise PolytheoryError(f"cannot write the model to {folder}: {error.strerror or error}") from error


def save_reward_model(trained: Any, folder: Path) -> None:
    """The reward model as transformers reads it, a sequence classifier with one label; adapters merged.

    A run without one, or with one that is no `RewardModel`, writes nothing. Raises `PolytheoryError` when the disk refuses, or
    for an architecture that transformers knows no classifier of.
    """
    reward = getattr(trained.run.state, "reward_model", None)
    if not isinstance(reward, RewardModel):
        return
    transformers, trunk = require("transformers", "lm"), merged(reward.trunk)
    config = copy.deepcopy(trunk.config)
    config.num_labels, config.pad_token_id = 1, trained.tokenizer.pad_token_id
    try:
        made = transformers.AutoModelForSequenceClassification.from_config(config, dtype=trunk.dtype)
        made.base_model.load_state_dict(trunk.base_model.state_dict())
        with torch.no_grad():
            made.score.weight.copy_(reward.head[None])
        made.save_pretrained(folder)
        trained.tokenizer.save_pretrained(folder)
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        raise PolytheoryError(f"cannot write the reward model to {folder}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{error}".split())[:300] or type(error).__name__
