"""Recipes: every key has one home, and a wrong one is said in one line."""

from __future__ import annotations

import dataclasses

import pytest

from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.training import recipe as recipes
from polytheory.lab.training.recipe import names, read, resolve
from polytheory.lab.training.train import make_algorithm
from polytheory.scaled.language.finetune import Finetune
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.tiny import tiny_model


@pytest.mark.parametrize("name", names())
def test_every_shipped_recipe_makes_its_algorithm(name):
    found = read(name)
    made = make_algorithm(found, CausalPolicy(tiny_model(8, hidden=32, heads=1), 1))
    for key, value in found.settings.items():
        assert getattr(made.method, key) == value
    if (found.output.follow, found.output.decay) == ("adamw", "cosine"):
        assert made.optimiser.total == found.output.steps * made.method.updates * made.mini_batches


def test_no_key_has_two_homes():
    # a collision would silently send a number to the wrong place
    for name in names():
        sections = [
            recipes.Problem,
            recipes.Start,
            recipes.Lora,
            recipes.Output,
            recipes.Sampling,
            recipes.RewardDesign,
            Finetune,
            recipes.OPTIMISERS[read(name).output.follow],
        ]
        seen: dict[str, str] = {}
        for cls in [*sections, read(name).algorithm()]:
            for f in dataclasses.fields(cls):
                shared = {"policy", "method", "optimiser", "total"} | ({"step_size"} if cls not in sections else set())
                if f.name not in shared:
                    assert f.name not in seen, f"{f.name} of {cls.__name__} and of {seen.get(f.name)}"
                    seen[f.name] = cls.__name__


def test_changes_win_over_the_file_and_reach_their_home():
    found = read(
        "grpo", {"steps": 7, "eps_high": 0.5, "step_size": 1e-3, "micro_batch": 16, "task": "copy", "reward": "a:b"}
    )
    assert (found.output.steps, found.settings["eps_high"], found.optimiser["step_size"]) == (7, 0.5, 1e-3)
    assert (found.driver["micro_batch"], found.problem.task, found.problem.reward) == (16, "copy", ("a:b",))
    assert found.flat()["eps_high"] == 0.5


def test_a_file_of_one_s_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('method = "grpo"\nsteps = 3\nbeta = 0.5\n')
    assert read(str(path)).settings == {"beta": 0.5}
    path.write_text("steps = ")
    with pytest.raises(SettingError, match="not a TOML file"):
        read(str(path))
    path.write_text("[method]\nname = 1\n")
    with pytest.raises(SettingError, match="flat"):
        read(str(path))
    with pytest.raises(SettingError, match="no recipe"):
        read(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"epsilon_high": 0.3}, UnknownNameError, "eps_high"),
        ({"method": "gpro"}, UnknownNameError, "grpo"),
        ({"method": "planning"}, SettingError, "family"),
        ({"steps": "many"}, SettingError, "whole number"),
        ({"steps": True}, SettingError, "whole number"),
        ({"step_size": -1.0}, SettingError, "positive"),
        ({"follow": "adam"}, UnknownNameError, "adamw"),
        ({"follow": "n-pg-igt", "betas": [0.9, 0.9]}, UnknownNameError, "betas"),
        ({"follow": "n-pg-igt", "eta0": 2.0}, SettingError, "eta0 = 2.0"),
        ({"trust_remote_code": 1}, SettingError, "true or false"),
        ({"sampler": "vlm"}, UnknownNameError, "vllm"),
    ],
)
def test_bad_keys_and_values_are_one_line(given, error, text):
    with pytest.raises(error, match=text) as found:
        resolve("x", given)
    assert "\n" not in str(found.value)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UnknownNameError, match="grpo"):
        read("grppo")
