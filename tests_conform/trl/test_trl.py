"""TRL computes what the page says, the page leaves nothing out, and changes in TRL would be noticed."""

from __future__ import annotations

import ast
import inspect
import re

import pytest
from mutants import rewritten
from table_tests import changed, check_numbers, check_teeth, check_verdicts, kept, rows
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

SAMPLES = "_generate_and_score_completions"
# What is wrong, where, and how: together they move every row of the page.
MUTANTS = [
    (GRPOTrainer, "_compute_loss", 'advantages = inputs["advantages"]', 'advantages = 1.001 * inputs["advantages"]'),
    (GRPOTrainer, "_compute_loss", "self.beta * per_token_kl", "2 * self.beta * per_token_kl"),
    (GRPOTrainer, "_compute_loss", "coef_2 = torch.clamp(coef_1, 1 -", "coef_2 = torch.clamp(coef_1, 0.9 -"),
    (GRPOTrainer, "_compute_loss", 'elif self.importance_sampling_level == "sequence"', 'elif self.beta == -1'),
    (GRPOTrainer, SAMPLES, "torch.exp(logps_diff)", "torch.exp(-logps_diff)"),
    (GRPOTrainer, SAMPLES, "advantages = rewards - mean_grouped_rewards", "advantages = rewards - 0.9 * mean_grouped_rewards"),
    (GRPOTrainer, SAMPLES, "(grouped - mean_k) / (std_k + 1e-4)", "(grouped - mean_k) / (std_k + 1e-2)"),
    (RLOOTrainer, SAMPLES, "/ (scorable_counts - 1)", "/ scorable_counts"),
    (RLOOTrainer, "_compute_loss", 'advantages = inputs["advantages"]', 'advantages = 1.001 * inputs["advantages"]'),
    (DPOTrainer, "_compute_loss", "chosen_logratios = chosen_logps - ref", "chosen_logratios = chosen_logps - 0.9 * ref"),
    (DPOTrainer, "_compute_loss", "ref_logratios = ref_chosen_logps -", "ref_logratios = 0.9 * ref_chosen_logps -"),
    (DPOTrainer, "_compute_loss", "batch_loss = -chosen_per_token_logps", "batch_loss = -0.9 * chosen_per_token_logps"),
]  # fmt: skip


def test_numbers_are_those_of_the_page():
    check_numbers("trl")


def test_verdicts_hold_on_fresh_numbers():
    check_verdicts("trl")


@pytest.mark.parametrize("row", rows("trl"), ids=lambda row: row.name)
def test_a_small_mistake_in_any_row_is_noticed(row):
    check_teeth(row)


def test_changes_in_trl_are_noticed_in_every_row(monkeypatch):
    moved: set[str] = set()
    for owner, method, old, new in MUTANTS:
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, rewritten(getattr(owner, method), old, new))
            found = changed("trl")
        assert found, f"nobody notices {new!r}"
        moved |= found
    refused = {name for name, numbers in kept("trl").items() if isinstance(numbers, str)}
    assert moved >= set(kept("trl")) - refused


def asked(call: str, setting: str) -> set:
    """The values of a setting among the rows, those of lists one by one."""
    found = [row.settings[setting] for row in rows("trl") if row.call == call and setting in row.settings]
    return {x for value in found for x in (value if isinstance(value, list) else [value])}


def compared(function, variable: str) -> set[str]:
    """The names that a method compares a variable with."""
    source = inspect.getsource(inspect.unwrap(function))
    found = re.findall(rf"{re.escape(variable)} (?:==|in) (\[[^\]]*\]|\"\w+\")", source)
    values = [ast.literal_eval(text) for text in found]
    return {x for value in values for x in ([value] if isinstance(value, str) else value)}


def test_no_loss_type_and_no_mode_is_left_out():
    types = compared(GRPOTrainer._compute_loss, "self.loss_type")
    assert len(types) == 8
    assert asked("grpo_loss", "loss_type") == types
    names = compared(DPOTrainer._compute_loss, "loss_type")
    assert len(names) == 15
    assert asked("dpo_loss", "loss_type") == names
    assert asked("dpo_loss", "f_divergence_type") == compared(DPOTrainer._compute_loss, "self.f_divergence_type")
    modes = compared(getattr(GRPOTrainer, SAMPLES), "self.vllm_importance_sampling_mode")
    assert len(modes) == 4
    assert asked("grpo_loss", "vllm_importance_sampling_mode") == modes
    assert asked("grpo_advantages", "scale_rewards") == {
        *compared(getattr(GRPOTrainer, SAMPLES), "self.scale_rewards"),
        "none",
    }
