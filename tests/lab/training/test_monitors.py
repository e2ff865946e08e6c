"""What is watched while training: lost signal, the exact probe, held-out scores on the page; failures and their exit codes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from polytheory.cli.main import call
from polytheory.errors import NoSignalError, SettingError
from polytheory.lab.training.monitors import Signal
from polytheory.lab.training.page import page
from polytheory.lab.training.probe import Probe
from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import train

SMALL = {
    "steps": 6, "sft_steps": 2, "sft_batch": 8, "rows": 64, "held_out": 8, "prompts": 2, "group_size": 4,
    "every": "2 steps",
}  # fmt: skip


def info(equal, std=1.0):
    return {"frac_reward_zero_std": 1.0 if equal else 0.9, "reward_std": std, "reward": 0.0}


def test_lost_signal_warns_once_at_five_steps_and_ends_at_the_patience(tmp_path):
    told: list[str] = []
    watch = Signal(8, bundles=False, folder=tmp_path, say=told.append)
    for step, equal in enumerate([True] * 4 + [False] + [True] * 7):
        watch(None, info(equal), step)
    assert len(told) == 1
    assert told[0].startswith("steps 6 to 10: all completions of a prompt score the same")
    with pytest.raises(NoSignalError, match="8 steps in a row, up to step 13"):
        watch(None, info(True), 12)


def test_the_count_goes_on_after_a_resume(tmp_path):
    rows = [{"step": s, "values": info(s > 0)} for s in range(7)]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told: list[str] = []
    watch = Signal(5, bundles=False, folder=tmp_path, say=told.append)
    with pytest.raises(NoSignalError, match="5 steps in a row"):
        watch(None, info(True), 5)  # steps 1 to 4 of the file, not those after the checkpoint


def test_bundles_have_signal_while_any_reward_differs(tmp_path):
    watch = Signal(3, bundles=True, folder=None, say=lambda text: None)
    for step in range(9):
        watch(None, info(True, std=0.5), step)
    never = Signal(0, bundles=False, folder=None, say=lambda text: None)
    for step in range(99):
        never(None, info(True), step)


def test_the_probe_is_right_as_often_as_asked_and_keeps_the_rest_of_the_law():
    probe = Probe(read("rloo"))
    start = probe.lm.probs(probe.start)
    for success in (0.02, 0.4, 0.97):
        p = probe.lm.probs(probe.logits(success))
        right = np.array([sum(v == 1 for v in y) % 2 == 1 for y in probe.lm.sequences])
        assert p[right].sum() == pytest.approx(success, rel=1e-12)
        assert p[right] / p[right].sum() == pytest.approx(start[right] / start[right].sum(), rel=1e-11)


def test_the_probe_s_gradient_is_the_estimator_s_own_sum():
    """RLOO written out row by row: (1 / n) sum_i (R_i - mean of the others) grad log p(y_i), on the probe's own samples."""
    probe = Probe(read("rloo", {"prompts": 3, "group_size": 4}))
    logits, seen = probe.logits(0.3), {}
    cls = probe.recipe.algorithm()
    original = cls.collect

    def collect(self, state, access):
        found = original(self, state, access)
        seen["rows"] = found[0]
        return found

    cls.collect = collect
    try:
        sampled = probe.sampled(logits, 0)[0][: logits.size]
    finally:
        cls.collect = original
    scores = probe.lm.scores(logits)
    index = {y: i for i, y in enumerate(probe.lm.sequences)}
    n, total = 12, np.zeros(logits.shape)
    ys = [tuple(row[m].tolist()) for row, m in zip(seen["rows"]["actions"][:n], seen["rows"]["mask"][:n], strict=True)]
    rewards = [float(y.count(1) % 2) for y in ys]
    for i, y in enumerate(ys):
        others = [rewards[j] for j in range(i // 4 * 4, i // 4 * 4 + 4) if j != i]
        total += (rewards[i] - sum(others) / 3) * scores[index[y]] / n
    np.testing.assert_allclose(sampled.reshape(logits.shape), total, atol=1e-14)


def test_the_probe_tells_an_estimator_of_the_gradient_from_noise():
    big, small = (Probe(read("rloo", {"prompts": m}))(0.5, 0) for m in (64, 1))
    assert small["probe/cosine"] < big["probe/cosine"] < 1
    # n rows: squared noise over signal falls as 1 / n; 16 batches of 512 rows leave under 1 % of an angle's sine squared
    assert big["probe/cosine_mean"] > 0.99


def test_a_training_shows_held_out_scores_and_the_probe(tmp_path):
    found = train(read("grpo", {**SMALL, "evaluate_every": 2, "probe_every": 3}), output=tmp_path)
    history = found.run.history
    assert history.steps("eval_reward").tolist() == [1, 3, 5]
    assert history.steps("probe/cosine").tolist() == [2, 5]
    assert float(history.last("eval_reward")[0]) == found.after.sampled  # the last step's weights are the last ones
    shown = re.findall(r"<figure><h4>(.*?)</h4>", page(found))
    assert "Sampled gradient against the exact one, on the probe" in shown
    assert "held-out, likeliest tokens" in page(found)
    # watching changes nothing
    alone = train(read("grpo", SMALL))
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), alone.model.parameters(), strict=True))


FAILURES = {
    "diverged": (
        "method = 'grpo'\nupdates = 2\nfollow = 'sgd'\nstep_size = 1e30\n",
        "loss nan, gradient norm nan; lower",
    ),
    "kl": ("method = 'grpo'\nupdates = 4\nstep_size = 1.0\nmax_kl = 0.5\n", "allowed are max_kl = 0.5"),
    "no signal": (
        "method = 'grpo'\npatience = 2\nreward = 'language_rewards:zero'\n",
        "2 steps in a row, up to step 2",
    ),
}


@pytest.mark.parametrize("which", FAILURES)
def test_a_failure_is_one_line_and_exit_code_1_and_typed_again_it_goes_on(which, tmp_path, capsys):
    keys, text = FAILURES[which]
    (tmp_path / "mine.toml").write_text(keys if "reward" in keys else f"{keys}reward = 'language_rewards:length'\n")
    settings = {**SMALL, "every": "1 steps", "output": tmp_path / "run"}
    command = ["train", str(tmp_path / "mine.toml"), *(f"{k}={v}" for k, v in settings.items())]
    for _ in range(2):
        assert call(command) == 1
        err = capsys.readouterr().err.strip().splitlines()
        assert text in err[-1]
        kept = tmp_path / "run" / "checkpoints" / "latest"
        assert (f"kept: {kept.parent}" if kept.exists() else "no step had been saved") in err[-1]


def test_a_negative_patience_is_bad_input():
    with pytest.raises(SettingError, match="patience = -1"):
        train(read("grpo", {**SMALL, "patience": -1}))
