"""A real vLLM server on this machine: its log-probs are the trainer's, over HTTP and a folder of weights."""

import json
import urllib.request

import pytest
from compare import CLOSE, OFF, changed, completed, gap
from conftest import tied

from polytheory.errors import SamplerError, SettingError
from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import train
from polytheory.scaled.language.samplers.vllm_server import VllmServer
from polytheory.scaled.language.samplers.weights import named_weights
from polytheory.scaled.language.tiny import character_tokenizer


@pytest.fixture
def sampler(server, tmp_path):
    made = VllmServer(server, folder=str(tmp_path / "weights"), rows=32)
    yield made
    made.close()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_the_trainer_s(sampler, prompts, temperature):
    # the served folder has other weights, and a generation config that would leave one token
    assert gap(sampler, tied("qwen2", seed=1), prompts, temperature=temperature) < CLOSE


def test_rows_have_seeds_of_their_own(sampler, prompts):
    done, found = completed(sampler, tied("qwen2", seed=1), prompts, each=2)
    assert len({tuple(x) for x in done.actions.tolist()}) == 4
    assert (found - done.log_probs).abs().max() < CLOSE


def test_weights_are_pushed_once_per_change(sampler, prompts, tmp_path):
    model = tied("qwen2", seed=2)
    assert gap(sampler, model, prompts) < CLOSE
    assert gap(sampler, model, prompts, temperature=0.7) < CLOSE
    assert sampler.pushes == 1
    assert gap(sampler, changed(model), prompts) < CLOSE
    assert sampler.pushes == 2
    assert not list((tmp_path / "weights").iterdir())  # loaded, hence removed
    # another trainer, or a server that was started again, shows by the version
    assert VllmServer(sampler._url).refresh(changed(tied("qwen2", seed=3))) != ""
    assert gap(sampler, model, prompts) < CLOSE
    assert sampler.pushes == 3


def test_the_prefix_cache_of_old_weights_is_emptied(sampler, prompts, monkeypatch):
    model = tied("qwen2", seed=4)
    assert gap(sampler, model, prompts) < CLOSE
    usual = sampler._ask
    monkeypatch.setattr(
        sampler, "_ask", lambda path, *body: {"success": True} if "cache" in path else usual(path, *body)
    )
    assert gap(sampler, changed(model), prompts) > OFF
    monkeypatch.undo()
    sampler.push(named_weights(model), "again", model.config)
    assert gap(sampler, model, prompts) < CLOSE


def test_answers_of_other_weights_are_refused(sampler, prompts, monkeypatch):
    model = tied("qwen2", seed=5)
    usual = sampler.refresh

    def overtaken(model):
        version = usual(model)
        body = json.dumps({"new_version": "somebody else's"}).encode()
        asked = urllib.request.Request(
            f"{sampler._url}/update_weight_version", body, {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(asked).close()
        return version

    monkeypatch.setattr(sampler, "refresh", overtaken)
    with pytest.raises(SamplerError, match="weights of another version"):
        completed(sampler, model, prompts)


def test_a_text_without_room_is_one_line(sampler, prompts):
    with pytest.raises(SettingError, match="need 700 tokens, the engine has room for 400"):
        completed(sampler, tied("qwen2", seed=1), prompts, longest=500)


def test_a_request_that_the_server_refuses_is_one_line(sampler):
    with pytest.raises(SamplerError, match=r"refused /inference/v1/generate: 4\d\d") as found:
        sampler._ask("/inference/v1/generate", {"token_ids": [], "sampling_params": {}})
    assert "\n" not in str(found.value)


def test_a_model_of_another_shape_is_refused(sampler, prompts):
    with pytest.raises(SamplerError) as found:
        completed(sampler, tied("gpt2"), prompts)
    assert "\n" not in str(found.value)


def test_a_training_through_the_server(server, tmp_path):
    tied("qwen2", seed=6).save_pretrained(tmp_path / "model")
    character_tokenizer().save_pretrained(tmp_path / "model")
    recipe = read(
        "grpo",
        {"model": str(tmp_path / "model"), "sampler": "vllm-server", "sampler_url": server, "sft_steps": 10, "steps": 3,
         "rows": 64, "held_out": 8, "prompts": 2, "group_size": 4},
    )  # fmt: skip
    gaps = train(recipe).run.history.column("mismatch/max")
    assert ((gaps > 0) & (gaps < 1e-4)).all()
