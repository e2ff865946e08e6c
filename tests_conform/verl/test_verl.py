"""verl computes what the page says, the page leaves nothing out, and changes in verl would be noticed."""

from __future__ import annotations

import inspect
import re

import pytest
from mutants import rewritten
from table_tests import changed, check_numbers, check_teeth, check_verdicts, kept, rows
from verl.trainer.ppo import core_algos, rollout_corr_helper

LOSSES, ESTIMATORS = core_algos.POLICY_LOSS_REGISTRY, core_algos.ADV_ESTIMATOR_REGISTRY
RATIO = ("negative_approx_kl = log_prob - old_log_prob", "negative_approx_kl = log_prob - 0.99 * old_log_prob")
SCORES = (
    "scores = token_level_rewards.sum(dim=-1)",
    "scores = 1.1 * token_level_rewards.sum(dim=-1) ** 3 + 0.1 * response_mask.sum(dim=-1)",
)
# What is wrong, where, and how: together they move every row of the page.
MUTANTS = [
    *((LOSSES, name, *RATIO) for name in (
        "vanilla", "gspo", "cispo", "sapo", "geo_mean", "clip_cov", "kl_cov", "dppo_tv", "dppo_kl")),
    (core_algos, "compute_policy_loss_vanilla", *RATIO),
    (core_algos, "compute_policy_loss_reinforce", "-advantages * log_prob * rollout_is_weights", "-advantages * log_prob"),
    (LOSSES, "gpg", "-log_prob * advantages", "-log_prob"),
    (LOSSES, "dro", "0.5 * beta", "beta"),
    (LOSSES, "kl_cov", "ppo_kl_coef * abs_kl", "2 * ppo_kl_coef * abs_kl"),
    (core_algos, "agg_loss", "loss_mask) / batch_num_tokens", "loss_mask) / 7"),
    (core_algos, "kl_penalty_forward", "logprob - ref_logprob", "logprob - 0.9 * ref_logprob"),
    (core_algos, "kl_penalty", "0.5 * (logprob - ref_logprob).square()", "(logprob - ref_logprob).square()"),
    (core_algos, "kl_penalty_forward", "min=-10, max=10", "min=-9, max=9"),
    (core_algos, "kl_penalty_forward", "(ratio - kl - 1)", "(ratio - kl)"),
    (rollout_corr_helper, "compute_rollout_correction_weights", "torch.exp(log_ratio_", "torch.exp(-log_ratio_"),
    *((ESTIMATORS, name, *SCORES) for name in (
        "grpo", "grpo_vectorized", "grpo_passk", "reinforce_plus_plus_baseline", "rloo", "opo", "gpg", "rloo_vectorized")),
    (core_algos, "compute_grpo_outcome_advantage", *SCORES),
    (ESTIMATORS, "reinforce_plus_plus", "token_level_rewards[:, t] + gamma", "token_level_rewards[:, t] - t + gamma"),
    (ESTIMATORS, "remax", "returns - reward_baselines", "2 * returns - reward_baselines"),
    (ESTIMATORS, "gae", "gamma * nextvalues", "0.9 * gamma * nextvalues"),
    *((ESTIMATORS, name, "1 - 2 * pi_t", "1 - pi_t") for name in ("optimal_token_baseline", "tir_optimal_token_baseline")),
]  # fmt: skip


def test_numbers_are_those_of_the_page():
    check_numbers("verl")


def test_verdicts_hold_on_fresh_numbers():
    check_verdicts("verl")


@pytest.mark.parametrize("row", rows("verl"), ids=lambda row: row.name)
def test_a_small_mistake_in_any_row_is_noticed(row):
    check_teeth(row)


def test_changes_in_verl_are_noticed_in_every_row(monkeypatch):
    moved: set[str] = set()
    for owner, name, old, new in MUTANTS:
        with monkeypatch.context() as patch:
            if isinstance(owner, dict):
                patch.setitem(owner, name, rewritten(owner[name], old, new))
            else:
                patch.setattr(owner, name, rewritten(getattr(owner, name), old, new))
            found = changed("verl")
        assert found, f"nobody notices {name}: {new!r}"
        moved |= found
    refused = {name for name, numbers in kept("verl").items() if isinstance(numbers, str)}
    assert moved >= set(kept("verl")) - refused


def asked(call: str, setting: str) -> set:
    """The values of a setting among the rows."""
    return {row.settings[setting] for row in rows("verl") if row.call == call and setting in row.settings}


def theirs(registry: dict) -> set[str]:
    """verl's own names; polytheory is a plugin that adds its own."""
    return {name for name in registry if not name.startswith("polytheory_")}


def test_no_loss_estimator_average_or_penalty_is_left_out():
    assert asked("policy_loss", "loss_mode") == theirs(LOSSES)
    assert asked("advantages", "estimator") == theirs(ESTIMATORS)
    averages = set(re.findall(r'"([a-z-]+)"', inspect.getsource(core_algos.agg_loss).split('"""')[2])) & {
        "token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean"}  # fmt: skip
    assert asked("policy_loss", "loss_agg_mode") | {"token-mean"} == averages
    names = re.findall(
        r'"(\w+)"', "".join(re.findall(r"kl_penalty (?:==|in) .*", inspect.getsource(core_algos.kl_penalty_forward)))
    )
    with_tilt = {f"{name}+" for name in names if name != "full"}
    assert asked("kl_loss", "kl_loss_type") == set(names) | with_tilt
    assert asked("policy_loss", "rollout_rs") == rollout_corr_helper.SUPPORTED_ROLLOUT_RS_OPTIONS
