"""verl's trainer on a CPU as far as it goes: advantages, then its FSDP worker's update, against the reference room."""

from __future__ import annotations

import copy
import re
import shlex
import socket
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import verl
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM
from verl_cpu import start, update, weights, worker

import polytheory.integrations.verl as ours
from polytheory.reference.posttraining import grpo
from polytheory.reference.posttraining.advantages import group_advantages, rloo_advantages
from polytheory.reference.posttraining.composition import Use, evaluate
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model

PROMPT, ANSWER, ROWS, LR = 5, 6, 8, 0.5
UNIT = float(np.finfo(np.float32).eps) / 2
PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "verl.md"
assert grpo.Grpo  # its parts are registered


def batch(size):
    """Completions of unequal length under prompts of unequal length, padded on verl's sides."""
    from verl import DataProto

    rng = torch.Generator().manual_seed(0)
    asked, said = (torch.randint(2, n + 1, (ROWS, 1), generator=rng) for n in (PROMPT, ANSWER))
    attention = torch.cat([torch.arange(PROMPT) >= PROMPT - asked, torch.arange(ANSWER) < said], 1).long()
    ids = torch.randint(2, size, (ROWS, PROMPT + ANSWER), generator=rng) * attention
    rewards = torch.zeros(ROWS, ANSWER)
    rewards[torch.arange(ROWS), said[:, 0] - 1] = torch.randint(-4, 5, (ROWS,), generator=rng) / 4
    tensors = {
        "prompts": ids[:, :PROMPT], "responses": ids[:, PROMPT:], "input_ids": ids, "attention_mask": attention,
        "position_ids": (attention.cumsum(1) - 1).clamp(min=0), "response_mask": attention[:, PROMPT:].clone(),
        "token_level_rewards": rewards, "old_log_probs": -3.2 + 0.1 * torch.randn(ROWS, ANSWER, generator=rng),
    }  # fmt: skip
    names = np.array([f"prompt {i // 4}" for i in range(ROWS)], dtype=object)
    return DataProto.from_dict(tensors=tensors, non_tensors={"uid": names}, meta_info={"temperature": 1.0})


def command():
    """The overrides of the page's first command."""
    (text,) = re.findall(r"python3 -m verl\.trainer\.main_ppo \\\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    return shlex.split(text.replace("\\\n", " "))


def composed(*more):
    """verl's own configuration with overrides."""
    folder = str(Path(verl.__file__).parent / "trainer" / "config")
    with initialize_config_dir(folder, version_base=None):
        return compose("ppo_trainer", overrides=[*command(), *more])


def actor_of(config):
    """The actor's configuration as verl's worker makes it."""
    from verl.utils.config import omega_conf_to_dataclass

    return omega_conf_to_dataclass(config.actor_rollout_ref.actor)


def test_the_command_of_the_page_is_a_configuration_of_verl():
    actor = actor_of(composed())
    assert actor.policy_loss.polytheory == {"eps_high": 0.28}
    assert actor.policy_loss.loss_mode == "polytheory_grpo"
    with pytest.raises(Exception, match="did you mean 'eps_low'"):
        actor_of(composed("+actor_rollout_ref.actor.policy_loss.polytheory.epslow=0.1"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A worker with the tiny model; the loss is set by the tests."""
    path, tokenizer = str(tmp_path_factory.mktemp("verl") / "tiny"), character_tokenizer()
    tiny_model(len(tokenizer), hidden=16, heads=2, feed_forward=32, seed=3).save_pretrained(path)
    tokenizer.save_pretrained(path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start(port)
    yield path, worker(path, actor_of(composed()), lr=LR, micro_batch=2), len(tokenizer)
    torch.distributed.destroy_process_group()


WIDE = {"eps_low": 0.3, "eps_high": 0.4}
RUNS = {
    "GRPO, token means": (
        "grpo",
        group_advantages,
        {"eps": 1e-6},
        "ppo_clip",
        {"eps_high": 0.28},
        "token-mean",
        "token_mean",
    ),
    "RLOO and GSPO": (
        "rloo",
        rloo_advantages,
        {},
        "gspo",
        {"eps_low": 0.3, "eps_high": 0.4},
        "seq-mean-token-mean",
        "seq_mean",
    ),
    "RLOO and CISPO": ("rloo", rloo_advantages, {}, "cispo", {"ratio_high": 1.1}, "seq-mean-token-sum", "seq_sum"),
}


def check(made, name, sign=1.0):
    """The worker's update is a step down the reference room's gradient. Raises `AssertionError`."""
    estimator, part, options, loss, settings, average, normalisation = RUNS[name]
    path, trained, size = made
    compute_advantage = import_module("verl.trainer.ppo.ray_trainer").compute_advantage
    config = composed(
        f"algorithm.adv_estimator=polytheory_{estimator}", f"actor_rollout_ref.actor.policy_loss.loss_mode=polytheory_{loss}",
        "~actor_rollout_ref.actor.policy_loss.polytheory", "~algorithm.polytheory",
        *(f"+actor_rollout_ref.actor.policy_loss.polytheory.{k}={v}" for k, v in settings.items()),
        *(f"+algorithm.polytheory.{k}={v}" for k, v in options.items()),
        f"actor_rollout_ref.actor.loss_agg_mode={average}", "actor_rollout_ref.actor.use_kl_loss=False",
    )  # fmt: skip
    data = compute_advantage(batch(size), config.algorithm.adv_estimator, config=config.algorithm)
    trained.loss_fn.keywords["config"] = actor_of(config)
    before = weights(trained)
    update(trained, copy.deepcopy(data), ROWS)
    after = weights(trained)

    lm = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)
    lm.load_state_dict({k: x.double() for k, x in before.items()})
    rows = {k: data.batch[k] for k in ("prompts", "responses", "attention_mask", "response_mask", "old_log_probs")}
    now = []
    for i in range(ROWS):
        shown = rows["attention_mask"][i].bool()
        prompt, answer = rows["prompts"][i][shown[:PROMPT]], rows["responses"][i][shown[PROMPT:]]
        logits = lm(torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        found = logits.gather(1, answer[:, None])[:, 0]
        now.append(torch.nn.functional.pad(found, (0, ANSWER - len(answer))))
    now = torch.stack(now)
    score = data.batch["token_level_rewards"].double().sum(1).numpy()
    columns = part({"score": score, "group": np.arange(ROWS) // 4}, **options)
    columns |= {
        "mask": rows["response_mask"].bool().numpy(), "log_probs": now.detach().numpy(),
        "log_probs_old": rows["old_log_probs"].double().numpy(),
    }  # fmt: skip
    _, slopes = evaluate(columns, [Use(loss, settings)], normalisation=normalisation)
    pull = torch.from_numpy(np.where(columns["mask"], slopes["log_probs"], 0.0))
    expected = torch.autograd.grad((now * pull).sum(), list(lm.parameters()))
    # a gradient in single precision: sums over 48 tokens, two layers, widths up to 32, in log-probs that are 64 roundings off
    size = 1 + max(float(g.abs().max()) for g in expected)
    moved = 0.0
    for (key, _), g in zip(lm.named_parameters(), expected, strict=True):
        step = (before[key] - after[key]).double()
        moved = max(moved, float(step.abs().max()))
        rounding = float(before[key].abs().max()) * UNIT  # of the weight itself
        assert float((step - sign * LR * g).abs().max()) <= LR * 64 * ANSWER * UNIT * size + 2 * rounding, key
    assert moved > 1e-3


@pytest.mark.parametrize("name", RUNS)
def test_an_update_of_verls_worker_goes_down_the_gradient_of_the_reference_room(made, name):
    check(made, name)


def test_the_opposite_direction_is_noticed(made):
    with pytest.raises(AssertionError):
        check(made, "RLOO and CISPO", sign=-1.0)


def test_the_module_is_a_plugin_of_verl():
    from importlib.metadata import entry_points

    assert ours.__name__ in {entry.value for entry in entry_points(group="verl.plugins")}
    assert OmegaConf.create(ours.policy_loss_config(loss_mode="polytheory_gspo").polytheory) == {}
