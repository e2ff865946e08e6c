"""Two processes take the very steps of one: copied weights and sharded ones, checkpoints between them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from ranks_cases import CASES, ERRORS, SHARDED, access, algorithm, ends, outcome, start

from polytheory import checkpoints
from polytheory._trees import unpack
from polytheory.errors import SettingError

# float64 sums of the same terms in another order: some 1e3 terms a sum and three steps, of 1e-16 each, and AdamW divides by
# the root of the second moment, which multiplies the rounding of a gradient g by at most 1 / |g|, here below 1e4
CLOSE = 1e-9


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process finds, and its checkpoint after two steps."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("ranks")
    found = {name: outcome(name) for name in (*CASES, "sft")}
    found["whole"] = outcome("grpo", 3)
    outcome("grpo", 1, checkpoint=folder / "one copied")
    shutil.copytree(folder / "one copied", folder / "one sharded")
    return folder, found


@pytest.fixture(scope="module")
def two(one):
    """What each of two processes finds."""
    folder, _ = one
    found = ends(start(["-m", "ranks_cases", str(folder)], 2))
    assert [code for code, *_ in found] == [0, 0], found[0][2][-3000:] + found[1][2][-3000:]
    return [unpack(checkpoints.load(folder / str(i)).packed, {}) for i in range(2)]


def same(a, b, tolerance):
    assert (a["weights"] - b["weights"]).abs().max() <= tolerance
    assert a["episodes"] == b["episodes"]
    for x, y in zip(a["history"], b["history"], strict=True):
        assert x[:3] == y[:3]
        np.testing.assert_allclose(x[3], y[3], rtol=tolerance, atol=tolerance)
    assert a["memory"].keys() == b["memory"].keys()


@pytest.mark.parametrize("case", [*CASES, "sft", *(f"sharded {name}" for name in (*SHARDED, "sft"))])
def test_two_processes_learn_as_one_does(case, one, two):
    expected = one[1][case.removeprefix("sharded ")]
    for found in two:
        same(found[case], expected, CLOSE)
    assert torch.equal(two[0][case]["weights"], two[1][case]["weights"])


def test_every_case_moves_and_has_a_signal(one):
    for name, found in one[1].items():
        gradient = [x for _, _, key, x in found["history"] if key in ("grad_norm", "gradient_norm")]
        assert max(gradient) > 1e-3, name


def test_an_error_of_one_process_is_an_error_of_all_with_its_text(two):
    ours, pythons, foreign = ([type(error).__name__, str(error)] for error in ERRORS)
    assert two[1]["errors"] == [ours, pythons, foreign, ["ValueError", "own of 1"]]
    told = ["ProcessError", f"another process stopped: Foreign: {foreign[1]}"]
    assert two[0]["errors"] == [ours, pythons, told, ["ValueError", "own of 0"]]


@pytest.mark.parametrize("kind", ["copied", "sharded"])
def test_a_run_of_two_goes_on_bit_for_bit(kind, two):
    for found in two:
        same(found[f"{kind} resumed"], found[f"{kind} whole"], 0.0)


@pytest.mark.parametrize("kind", ["copied", "sharded"])
def test_a_run_goes_on_with_another_number_of_processes(kind, one, two):
    folder, found = one
    same(two[0][f"{kind} from one"], found["whole"], CLOSE)
    same(outcome("grpo", 3, checkpoint=folder / kind / "there"), found["whole"], CLOSE)


def test_masters_of_bfloat16_are_the_same_copied_and_sharded(one, two):
    """Copies add two bfloat16 gradients in float32; shards round that sum to bfloat16 once: 2^-8 of it."""
    begin = torch.cat([p.detach().float().ravel() for p in algorithm("bfloat16").method.policy.model.parameters()])
    for found in two:
        copied, sharded = (found[f"{kind} bfloat16"]["masters"] for kind in ("copied", "sharded"))
        step = copied - begin
        assert step.abs().max() > 1e-3
        # and the addition to a weight w in float32 rounds by 2^-24 w in either
        assert bool(((sharded - copied).abs() <= 2**-8 * step.abs() + 2**-23 * copied.abs()).all())
        for kind in ("copied", "sharded"):
            assert torch.equal(found[f"{kind} bfloat16"]["masters"], found[f"{kind} bfloat16 again"]["masters"])


def test_n_pg_igt_on_sharded_weights_is_refused(monkeypatch):
    monkeypatch.setattr("polytheory.scaled.language.finetune.is_sharded", lambda model: True)
    with pytest.raises(SettingError, match="sharding splits"):
        algorithm("rloo with n-pg-igt").init(access("rloo with n-pg-igt"), 0)
