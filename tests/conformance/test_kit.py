"""The kit finds what is wrong, only that, on a small batch; and says so in each of its words."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conformance_candidates import MUTANTS, WRONG_GRPO, grpo, k3_sign, own, refuses_kl
from numpy.testing import assert_allclose

from polytheory.conformance import Batch, Candidate, checks_for, conform
from polytheory.conformance.answers import Answer, Mismatch, difference
from polytheory.conformance.checks import CHECKS
from polytheory.conformance.kit import explain, wrong
from polytheory.conformance.targets import names, target
from polytheory.errors import SettingError, UnknownNameError

STATUSES = {"pass", "fail", "deviation", "stale", "refused"}


def test_every_check_has_a_mutant():
    assert set(MUTANTS) == set(CHECKS)


@pytest.mark.parametrize("name", MUTANTS)
def test_only_its_own_check_fails_a_mutant(name):
    checks = {check.name: check for check in checks_for(MUTANTS[name], examples=3)}
    (culprit,) = [check for check in checks_for(MUTANTS[name], examples=20) if check.name == name]
    del checks[name]
    assert {check.name: check.run().status for check in checks.values()} == dict.fromkeys(checks, "pass")
    assert replace(culprit, shrink=False).run().status == "fail"


@pytest.mark.parametrize("wrong_loss", WRONG_GRPO, ids=lambda f: f.__name__)
def test_a_wrong_grpo_fails_on_a_small_batch(wrong_loss):
    value = checks_for(wrong_loss, "grpo", examples=20)[0]
    finding = value.run()
    assert (value.name, finding.status) == ("value", "fail")
    n, t = finding.batch.mask.shape
    assert n <= 2
    assert t <= 2
    replayed = Batch.from_lists(json.loads(json.dumps(finding.batch.lists())))
    settings = target("grpo").full({})
    assert_allclose(target("grpo").expected(replayed, settings).value, finding.mismatch.expected, rtol=1e-14)
    assert_allclose(float(value.case.candidate.call(replayed, settings)), finding.mismatch.got, rtol=1e-14)


def test_a_right_grpo_passes():
    (report,) = conform(grpo, "grpo", settings={"eps_high": 0.28, "beta": 0.1}, examples=5)
    assert report.passed
    assert {f.status for f in report.findings} == {"pass"}
    assert report.settings["eps_high"] == 0.28
    assert "takes no counts" in report.not_checked["micro_batches"]
    assert {f.check for f in report.findings} | set(report.not_checked) == set(CHECKS)


def test_settings_reach_both_sides():
    assert checks_for(grpo, "grpo", settings={"beta": 0.5})[0].run().status == "pass"
    fixed = lambda batch: grpo(batch, eps_low=0.2, eps_high=0.2, beta=0.04)  # noqa: E731
    assert checks_for(fixed, "grpo", examples=5)[0].run().status == "pass"
    value = checks_for(fixed, "grpo", settings={"beta": 0.5}, examples=5)[0].run()
    assert value.status == "fail"  # what it has built in is noticed


@pytest.mark.parametrize("name", names())
def test_the_scaled_room_passes(name):
    (report,) = conform(own(name), examples=2)
    assert [(f.check, f.mismatch) for f in report.findings if f.status != "pass"] == []
    assert len(report.findings) >= 7


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("grpo", {"correction": "truncate", "correction_unit": "sequence", "cap": 1.5, "kl": "rho_k3", "dual": 3.0}),
        ("grpo", {"normalisation": "constant", "eps_low": 0.0, "eps_high": 0.0}),
        ("ppo_clip", {"normalisation": "seq_sum"}), ("cispo", {"normalisation": "token_mean", "ratio_high": 1.2}),
        ("group_advantages", {"scale": "batch"}), ("group_advantages", {"eps": 0.0, "ddof": 0}),
        ("gae", {"gamma": 0.9, "lam": 0.5}), ("masked_is", {"unit": "sequence", "floor": 0.5}), ("ipo", {"tau": 0.01}),
    ],
)  # fmt: skip
def test_the_scaled_room_passes_under_other_settings(name, settings):
    asked = [
        c
        for c in checks_for(own(name, **settings), examples=6)
        if c.name in ("value", "gradient", "float32", "micro_batches")
    ]
    assert [(c.name, c.run().status) for c in asked] == [(c.name, "pass") for c in asked]


def test_declared_deviations_occur_or_are_stale():
    candidate = MUTANTS["value"]
    declared = {"value": "differs from the paper", "padding": "unsure", "token_advantages": "unsure"}
    (report,) = conform(candidate, deviations=declared, examples=4)
    found = {f.check: f for f in report.findings}
    assert (found["value"].status, found["value"].reason) == ("deviation", "differs from the paper")
    assert found["value"].batch is not None
    assert found["padding"].status == "stale"
    assert found["token_advantages"].status == "stale"  # it cannot be asked at all
    assert not report.passed
    assert conform(candidate, deviations={"value": "differs from the paper"}, examples=4)[0].passed


def test_deviations_are_of_checks_that_exist():
    with pytest.raises(UnknownNameError, match="did you mean 'padding'"):
        conform(Candidate("k3_sign", k3_sign, "grpo", deviations={"paddin": "why"}))


def test_refusals():
    (report,) = conform(refuses_kl, "grpo", settings={"beta": 0.1}, examples=3)
    assert report.refused
    assert not report.passed
    assert {(f.status, f.reason) for f in report.findings} == {("refused", "there is no KL loss")}
    assert conform(refuses_kl, "grpo", settings={"beta": 0.0}, examples=5)[0].passed


def test_calling_a_check_raises_with_the_batch():
    value, *_ = checks_for(k3_sign, "grpo", examples=10)
    with pytest.raises(
        AssertionError, match=r"value: loss is .*, should be .*\n.*smallest failing batch:\n  log_probs = \[\["
    ):
        value()
    right, *_ = checks_for(grpo, "grpo", examples=3)
    assert right().status == "pass"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda batch: 0.5, "returned float; expected a torch.Tensor"),
        (
            lambda batch: batch.log_probs.sum(1).repeat(2),
            r"returned a torch.float64 tensor \[2\]; expected floating point \[\]",
        ),
        (lambda batch: batch.log_probs[99, 99], "raised IndexError: "),
        (lambda batch: batch.mask.sum(), "returned a torch.int64 tensor"),
    ],
)
def test_what_is_no_answer_fails(function, text):
    finding = checks_for(function, "reinforce", examples=10)[0].run()
    assert finding.status == "fail"
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(explain(checks_for(function, "reinforce")[0].case, finding))


def test_moods_are_a_failure():
    calls = []

    def moody(batch):
        calls.append(None)
        return (batch.score - 0.25) * (1 + (len(calls) % 3 == 0))

    (report,) = conform(moody, "reinforce_advantages", settings={"baseline": 0.25}, examples=10)
    assert not report.passed


def test_report_is_json():
    (report,) = conform(MUTANTS["ratio_overflow"], examples=10)
    text = json.dumps(report.row())
    row = json.loads(text)
    assert list(row) == ["candidate", "against", "settings", "passed", "checks", "not_checked"]
    keys = ["check", "status", "reason", "what", "expected", "got", "tolerance", "batch", "varied", "seconds"]
    assert all(list(check) == keys for check in row["checks"])
    assert {check["status"] for check in row["checks"]} <= STATUSES
    (bad,) = [check for check in row["checks"] if check["status"] == "fail"]
    assert Batch.from_lists(bad["batch"]).mask.shape == torch.Size([1, 1])


def test_differences():
    mask = torch.tensor([[True, False], [True, True]])
    value, nan = np.array([1.0, 2.0]), np.array([1.0, np.nan])
    assert difference(Answer(value), Answer(value + 1e-3), 2e-3, mask) is None
    assert difference(Answer(value), Answer(value + 1e-3), 5e-4, mask).what == "column[0]"
    assert difference(Answer(nan), Answer(value), 1.0, mask).what == "column[1]"
    wide = np.array([[1.0, 77.0], [2.0, 2.0]])
    assert difference(Answer(wide), Answer(value), 1e-9, mask) is None  # 77 is under the mask
    assert difference(Answer(wide + np.diag([0.0, 1.0])), Answer(value), 1e-9, mask).what == "column[1, 1]"
    got = Answer(np.zeros(()), {"log_probs": np.ones((2, 2))})
    assert (
        difference(got, Answer(np.zeros(()), {"log_probs": np.zeros((2, 2))}), 0.5, mask).what
        == "gradient of log_probs[0, 0]"
    )
    assert wrong(Mismatch("loss", 1.0, 2.0, 1e-9)) == "loss is 2, should be 1 within 1e-09"


def test_examples_must_be_positive():
    with pytest.raises(SettingError, match="examples = 0"):
        checks_for(grpo, "grpo", examples=0)
