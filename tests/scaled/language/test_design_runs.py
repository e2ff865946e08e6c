"""Runs with a reward model: exact resumption of both levels, the network itself, and one line for bad settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from language_table import TableModel, TokenWorld
from numpy.testing import assert_allclose

from polytheory.access import Key, Requests
from polytheory.access.language import Prompts, WeightedReward
from polytheory.errors import CheckpointError, DivergedError, SettingError, UnknownNameError
from polytheory.models.tabular_lm import TabularLM
from polytheory.models.text.tasks import task
from polytheory.models.text.verifiers import in_place
from polytheory.run import run
from polytheory.scaled.language import ranks as processes
from polytheory.scaled.language.design import DesignFinetune, RewardDesign
from polytheory.scaled.language.optimiser import AdamW, Sgd
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.reward_model import RewardModel
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model
from polytheory.scaled.posttraining.copg import Copg
from polytheory.scaled.posttraining.grpo import Grpo
from polytheory.scaled.posttraining.nft import Nft
from polytheory.streams import row_ids

RLOO: dict[str, Any] = {"advantage": "rloo", "surrogate": "reinforce", "normalisation": "seq_sum", "kl": "in_score"}


@pytest.fixture(scope="module")
def words():
    tokenizer = character_tokenizer()
    rows = task("copy").rows(64)
    policy = CausalPolicy(tiny_model(len(tokenizer), hidden=32, heads=1, feed_forward=32, layers=1), 1)
    return lambda: Prompts(rows, tokenizer, [WeightedReward("in-place", in_place)], max_length=5), policy


def parl(policy, **design):
    given = {"teacher": "choices", "upper_every": 2, "upper_prompts": 3, "reward_start": 2, **design}
    method = Grpo(policy=policy, prompts=4, group_size=4, beta=0.1, **RLOO)
    return DesignFinetune(method, AdamW(1e-3, warm_up=2, total=6), design=RewardDesign(**given))


@pytest.mark.parametrize("design", [{}, {"teacher": "utility", "reward_start": 0}])
def test_resumed_equals_uninterrupted_bit_for_bit(words, tmp_path, design):
    access, policy = words
    made = parl(policy, **design)
    whole = run(made, access(), steps=6, seed=1)
    for steps in (1, 3, 6):  # a stop before, between and behind upper steps
        again = run(made, access(), steps=steps, seed=1, checkpoint=tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert files <= {"latest", "manifest.json", "state.json", "arrays.npz", "tensors.safetensors", "history.jsonl"}
    for a, b in ((whole.state.model, again.state.model), (whole.state.reward_model, again.state.reward_model)):
        for x, y in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(x, y)
    one, two = whole.state.reward_optimizer.state_dict(), again.state.reward_optimizer.state_dict()
    for i, own in one["state"].items():
        for name, x in own.items():
            assert torch.equal(x, two["state"][i][name])
    assert one["state"]
    assert (again.state.upper, again.state.labels) == (whole.state.upper, whole.state.labels)
    assert whole.state.upper == (6 // 2 + made.design.reward_start)
    assert whole.history.last("upper/loss") == again.history.last("upper/loss")
    fresh = RewardModel(policy.model).parameters()
    moved = zip(whole.state.reward_model.parameters(), fresh, strict=True)
    assert any(float((x - y).detach().abs().max()) > 1e-4 for x, y in moved)


def test_another_design_is_another_run(words, tmp_path):
    access, policy = words
    run(parl(policy), access(), steps=1, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="design"):
        run(parl(policy, response=False), access(), steps=2, checkpoint=tmp_path)


def test_micro_batches_do_not_change_the_reward_model(words):
    access, policy = words
    ends = []
    for micro in (1024, 4):
        made = parl(policy, reward_start=0)
        made = DesignFinetune(made.method, Sgd(1e-6), micro_batch=micro, design=made.design)
        ends.append(run(made, access(), steps=1).state.reward_model)
    # float32 sums in another order, then Adam's sign of them; the head's first gradient has no zero entries
    for a, b in zip(ends[0].parameters(), ends[1].parameters(), strict=True):
        assert_allclose(a.detach(), b.detach(), atol=1e-6)


def test_a_fresh_reward_model_scores_nothing_and_reads_the_last_token(words):
    access, policy = words
    model = RewardModel(policy.model)
    rows = np.arange(4)
    traj = access().rollouts(policy, Requests(row_ids(0, rows), 5, rows), Key(0, "x", 0))
    given = {**traj.columns, "actions": traj.actions, "mask": traj.mask}
    assert bool((model(given) == 0).all())
    torch.nn.init.normal_(model.head)
    one = model(given)
    longer = {
        **given, "actions": torch.nn.functional.pad(traj.actions, (0, 3), value=7),
        "mask": torch.nn.functional.pad(traj.mask, (0, 3)),
    }  # fmt: skip
    assert_allclose(model(longer).detach(), one.detach(), atol=1e-5)  # padding is nothing, up to float32
    for i in range(4):
        k = int(traj.mask[i].sum())
        alone = {
            "prompt_ids": given["prompt_ids"][i : i + 1], "prompt_mask": given["prompt_mask"][i : i + 1],
            "actions": traj.actions[i : i + 1, :k], "mask": traj.mask[i : i + 1, :k],
        }  # fmt: skip
        assert_allclose(model(alone).detach(), one[i : i + 1].detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"upper_every": 3}, "upper_every without a teacher"),
        ({"teacher": "choices", "upper_group": 1}, "at least 3"),
        ({"teacher": "choices", "upper_group": 2}, "at least 3"),
        ({"teacher": "choices", "upper_group": 1, "response": False}, "at least 2"),
        ({"teacher": "utility", "upper_group": 1}, "at least 2"),
        ({"teacher": "choices", "teacher_scale": 0.0}, "teacher_scale = 0.0"),
        ({"teacher": "choices", "upper_every": -1}, "upper_every = -1"),
        ({"teacher": "choices", "upper_every": 0}, "nothing would teach"),
        ({"teacher": "choices", "upper_prompts": 0}, "upper_prompts = 0"),
        ({"teacher": "utility", "response": False}, "response alone"),
        ({"teacher": "utility", "reward_start": 5}, "response alone"),
        ({"teacher": "choices", "reward_step_size": 0.0}, "learning rate"),
        ({"teacher": "choices", "reward_decay": -1.0}, "reward_decay = -1.0"),
    ],
)
def test_bad_settings_are_one_line(settings, text):
    with pytest.raises(SettingError, match=text) as caught:
        RewardDesign(**settings)
    assert "\n" not in str(caught.value)


def test_several_processes_are_refused(words, monkeypatch):
    monkeypatch.setattr(processes, "current", lambda: processes.Ranks(0, 2))
    access, policy = words
    with pytest.raises(SettingError, match="launched were 2"):
        parl(policy).init(access(), 0)


def test_bad_partners_are_one_line(words):
    _, policy = words
    choices = RewardDesign("choices")
    with pytest.raises(UnknownNameError, match="utility"):
        RewardDesign("utilty")
    with pytest.raises(SettingError, match="without a teacher"):
        DesignFinetune(Grpo(policy=policy, beta=0.1, **RLOO), design=RewardDesign())
    with pytest.raises(SettingError, match=r"beta = 0.0; without a KL term"):
        DesignFinetune(Grpo(policy=policy, beta=0.0, **RLOO), design=choices)
    with pytest.raises(SettingError, match=r"beta = -1"):
        Grpo(policy=policy, beta=-1.0, **RLOO)
    with pytest.raises(SettingError, match="kl = 'k3'"):
        DesignFinetune(Grpo(policy=policy, beta=0.1), design=choices)
    with pytest.raises(SettingError, match="nft has no KL term"):
        DesignFinetune(Nft(policy=policy), design=choices)
    DesignFinetune(Copg(policy=policy, beta=0.1), design=choices)


def test_a_reward_model_that_runs_away_stops_the_run():
    lm = TabularLM()

    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.nu = torch.nn.Parameter(torch.tensor(float("nan"), dtype=torch.float64))

        def forward(self, columns):
            return self.nu * columns["mask"].sum(1)

    method = Grpo(policy=CausalPolicy(TableModel(lm), lm.eos), beta=0.4, **RLOO)
    with pytest.raises(DivergedError, match="reward model, update 0"):
        run(
            DesignFinetune(method, Sgd(1.0), design=RewardDesign("choices"), reward_model=Broken()),
            TokenWorld(lm),
            steps=1,
        )
