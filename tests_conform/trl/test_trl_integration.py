"""Our trainer class in TRL: every step of a short training is the reference room's, and equal settings make equal runs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
import trl_runs
from mutants import rewritten
from trl import GRPOTrainer
from trl_runs import check_run, recorded, score, trainer, verdict

from polytheory import checkpoints
from polytheory._trees import unpack
from polytheory.errors import ColumnError, SettingError, UnknownNameError
from polytheory.integrations.parts import all_parts
from polytheory.integrations.trl import PolytheoryGRPOTrainer, table
from polytheory.parts import Kind
from polytheory.reference.posttraining import copg, grpo, nft, riskpo
from polytheory.scaled.posttraining import copg as scaled_copg
from polytheory.scaled.posttraining import grpo as scaled_grpo
from polytheory.scaled.posttraining import nft as scaled_nft
from polytheory.scaled.posttraining import riskpo as scaled_riskpo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trl")


GSPO = {"eps_low": 0.05, "eps_high": 0.1}
# what the trainer is given, TRL's settings, the same method in the reference room, its reward
RUNS = {
    "rloo and gspo by name": (
        {"advantage": "rloo", "loss": "gspo", "loss_settings": GSPO}, {"steps_per_generation": 4},
        grpo.Grpo(policy=None, advantage="rloo", surrogate="gspo", beta=0.0, **GSPO), score,
    ),
    "tokens of the whole accumulated batch, a KL loss": (
        {"normalisation": "token_mean", "loss_settings": {"eps_high": 0.28}, "beta": 0.1, "kl": "rho_k3"}, {},
        grpo.Grpo(policy=None, normalisation="token_mean", eps_high=0.28, beta=0.1, kl="rho_k3"), score,
    ),
    "a filter and a KL penalty of scores": (
        {"composition": scaled_nft.Nft(policy=None)}, {"steps_per_generation": 4}, nft.Nft(policy=None), verdict,
    ),
    "a memory and bundles of prompts": (
        {"composition": scaled_riskpo.RiskPo(policy=None, prompts=2, bundle_size=2)}, {},
        riskpo.RiskPo(policy=None, prompts=2, bundle_size=2), score,
    ),
    "pairs": (
        {"composition": scaled_copg.Copg(policy=None)}, {"steps_per_generation": 4}, copg.Copg(policy=None), score,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_every_step_is_that_of_the_reference_room(folder, name):
    ours, settings, reference, reward = RUNS[name]
    check_run(folder, trainer(PolytheoryGRPOTrainer, folder, reward, ours, **settings), reference, reward)


# What is wrong: the method, the piece of its text, what stands there instead, and the run that notices
MUTANTS = [
    ("_compute_loss", "loss + ranks * evaluate(", "loss - ranks * evaluate(", "rloo and gspo by name"),
    ("_compute_loss", "counts = self._window_counts[self._step % self.args.steps_per_generation // size]",
     "counts = Counts.of(columns)", "tokens of the whole accumulated batch, a KL loss"),
    ("_compute_loss", "% self.args.steps_per_generation // size", "% 1", "a filter and a KL penalty of scores"),
    ("_global_columns", '"group": rows // size', '"group": rows % size', "rloo and gspo by name"),
    ("_columns", 'inputs.get(NATIVE["log_probs_old"], log_probs.detach())', "log_probs.detach()", "rloo and gspo by name"),
    ("_prepared", "memory.get(use.part)", "None", "a memory and bundles of prompts"),
]  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant[2])
def test_a_wrong_trainer_is_noticed(folder, monkeypatch, mutant):
    method, old, new, name = mutant
    monkeypatch.setattr(PolytheoryGRPOTrainer, method, rewritten(getattr(PolytheoryGRPOTrainer, method), old, new))
    ours, settings, reference, reward = RUNS[name]
    run = trainer(PolytheoryGRPOTrainer, folder, reward, ours, **settings, max_steps=3)
    with pytest.raises(AssertionError):
        check_run(folder, run, reference, reward)


STOCK = {
    "grpo": ({"loss_type": "grpo"}, {}),
    "dapo with KL": (
        {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.1, "use_bias_correction_kl": False},
        {"normalisation": "token_mean", "loss_settings": {"eps_high": 0.28}, "beta": 0.1},
    ),
}


@pytest.mark.parametrize("name", STOCK)
def test_equal_settings_make_the_run_of_trl(folder, name):
    theirs, ours = STOCK[name]
    stock, losses = run_of(GRPOTrainer, folder, None, **theirs)
    own, own_losses = run_of(PolytheoryGRPOTrainer, folder, ours)
    assert own_losses == pytest.approx(losses, abs=1e-6)  # sums of a few dozen numbers below 1 in single precision
    for a, b in zip(stock, own, strict=True):
        for key, value in a.items():
            torch.testing.assert_close(b[key], value, rtol=0, atol=1e-6)


def run_of(cls, folder, ours, **settings):
    """Gradients of all steps, and the losses of all steps and of an evaluation."""
    run = trainer(cls, folder, ours=ours, max_steps=3, **settings)
    run.eval_dataset = run.train_dataset.select(range(2))
    steps, _, losses = recorded(run)
    return steps.gradients, [*losses, run.evaluate()["eval_loss"]]


def test_groups_that_lie_on_two_processes(folder):
    trainer(GRPOTrainer, folder)  # saves the model
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        trl_runs.__file__,
        folder,
    ]
    found = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert "two ranks agree with the reference room" in found.stdout, found.stderr[-3000:]


def test_a_run_goes_on_with_its_memory(folder, tmp_path):
    ours, _, _, reward = RUNS["a memory and bundles of prompts"]
    save = {"num_iterations": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    whole, again = (trainer(PolytheoryGRPOTrainer, tmp_path, reward, ours, **save) for _ in range(2))
    whole.train()
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    kept, found = (run.memory["risk_advantages"]["quantiles"] for run in (whole, again))
    torch.testing.assert_close(found, kept, rtol=0, atol=0)
    first = unpack(checkpoints.load(tmp_path / "out" / "checkpoint-1" / "polytheory_memory").packed, {})
    assert bool((first["risk_advantages"]["quantiles"] != kept).any())


REFUSED = [
    ({}, {"beta": 0.04}, SettingError, "GRPOConfig's beta = 0.04 would be ignored"),
    ({}, {"loss_type": "grpo"}, SettingError, "loss_type = 'grpo' would be ignored"),
    ({}, {"scale_rewards": "none"}, SettingError, "scale_rewards = 'none'"),
    ({"loss": "gpso"}, {}, UnknownNameError, "did you mean 'gspo'"),
    ({"advantage": "gae"}, {}, SettingError, "GRPOTrainer has no critic"),
    ({"loss": "dpo"}, {}, SettingError, "DPOTrainer has such data"),
    ({"loss": "nft"}, {}, ColumnError, "put one of group_verdicts, unpack_verdicts before it"),
    ({"loss_settings": {"epsilon": 0.1}}, {}, UnknownNameError, "unknown setting of ppo_clip 'epsilon'"),
    ({"composition": scaled_grpo.Grpo(policy=None), "loss": "gspo"}, {}, SettingError, "loss are both given"),
    ({"composition": scaled_grpo.Grpo(policy=None, step_size=0.2)}, {}, SettingError, "GRPOConfig(learning_rate=...)"),
    ({"composition": scaled_grpo.Grpo(policy=None, group_size=6)}, {}, SettingError, "TRL's num_generations is 4"),
    ({"composition": scaled_grpo.Grpo(policy=None, correction="mask")}, {}, ColumnError, "log_probs_sampler"),
    ({"composition": scaled_copg.Copg(policy=None)}, {"per_device_train_batch_size": 2}, SettingError, "a multiple of num_gen"),
    ({}, {"steps_per_generation": 1, "per_device_train_batch_size": 8}, SettingError, "is no multiple of gradient_accum"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[3])
def test_what_would_be_ignored_or_cannot_be_is_refused_in_one_line(folder, case):
    ours, settings, error, text = case
    with pytest.raises(error, match=re.escape(text)) as found:
        trainer(PolytheoryGRPOTrainer, folder, ours=ours, **settings)
    assert "\n" not in str(found.value)


def test_the_table_says_of_every_advantage_and_loss_whether_it_is_carried():
    parts = {row.part for row in table()}
    assert parts == {*all_parts().names(Kind.ADVANTAGE), *all_parts().names(Kind.LOSS)}
    assert all(row.note for row in table() if not row.carried)
