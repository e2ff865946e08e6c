"""The client of a vLLM server, against a stand-in that answers the same questions with a model of its own.

The real server is asked in tests_vllm. What is loaded here is read back from the folder, and completions come from it: a weight
that is not handed over shows in the log-probs.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from polytheory.errors import PolytheoryError, SamplerError, SettingError
from polytheory.scaled.language.policy import CausalPolicy
from polytheory.scaled.language.ranks import Ranks
from polytheory.scaled.language.samplers.base import Cached, Sampling
from polytheory.scaled.language.samplers.vllm_server import VllmServer
from polytheory.scaled.language.sharding import gathered, shard
from polytheory.scaled.language.tiny import character_tokenizer, tiny_model


class StandIn(ThreadingHTTPServer):
    """A server of one model."""

    daemon_threads = True

    def __init__(self, model):
        super().__init__(("127.0.0.1", 0), Answers)
        self.model, self.version, self.mode, self.resets, self.known = (
            model,
            "default",
            "processed_logprobs",
            True,
            True,
        )
        self.calls: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    """What vLLM's server answers in development mode, as far as a trainer asks."""

    server: StandIn

    def do_GET(self):
        config = {"model_config": {"logprobs_mode": self.server.mode, "max_model_len": 40}}
        self.answer({"/server_info": {"vllm_config": config}, "/weight_info": {"weight_version": self.server.version}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path
        self.server.calls.append(path)
        if path == "/collective_rpc":
            assert body["method"] == "reload_weights"
            found = load_file(Path(body["kwargs"]["weights_path"]) / "model.safetensors")
            self.server.model.load_state_dict(found)
        if path == "/update_weight_version":
            self.server.version = body["new_version"]
        answers = {"/collective_rpc": {"results": [None]}, "/update_weight_version": {"success": True}}
        answers["/reset_prefix_cache"] = {"success": self.server.resets}
        if path == "/inference/v1/generate":
            answers[path] = self.generated(body)
        self.answer(answers)

    def generated(self, body):
        given, ids = body["sampling_params"], torch.tensor([body["token_ids"]])
        with torch.no_grad():
            done = Cached().complete(
                self.server.model, ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([given["seed"]]), (0, "x", 0),
                given["max_tokens"], eos=given["stop_token_ids"], temperature=given["temperature"],
            )  # fmt: skip
        content = [
            {"token_id": t, "logprob": v}
            for t, v in zip(done.actions[0].tolist(), done.log_probs[0].tolist(), strict=True)
        ]
        spans = [{"version": self.server.version, "start": 0, "end": len(content)}]
        return {
            "choices": [
                {"token_ids": done.actions[0].tolist(), "weight_versions": spans, "logprobs": {"content": content}}
            ]
        }

    def answer(self, answers):
        path = self.path.partition("?")[0]
        known = self.server.known and path in answers
        text = json.dumps(answers[path] if known else {"error": {"message": "no such question\nat all"}}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format, *args):
        """Silent."""


def small(seed=0):
    return tiny_model(len(character_tokenizer()), hidden=32, heads=1, layers=1, feed_forward=32, seed=seed)


@pytest.fixture
def server():
    made = StandIn(small(seed=9))
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def prompts():
    enc = character_tokenizer()(["Q12=", "Q987654="], return_tensors="pt", padding=True)
    return enc.input_ids, enc.attention_mask.bool()


def gap(sampler, model, prompts, temperature=0.7):
    policy = CausalPolicy(model, (1, 4), temperature, sampler=sampler)
    done = policy.complete(*prompts, torch.arange(6), (0, "x", 0), 5)
    columns = {"prompt_ids": prompts[0].repeat_interleave(3, 0), "prompt_mask": prompts[1].repeat_interleave(3, 0),
               "actions": done.actions, "mask": done.mask}  # fmt: skip
    with torch.no_grad():
        return float((policy.log_probs(columns) - done.log_probs).abs().max())


def test_weights_go_over_once_per_change_and_before_any_completion(server, prompts, tmp_path):
    sampler = VllmServer(server.url + "/", folder=str(tmp_path))
    model = small()
    for _ in range(2):
        assert gap(sampler, model, prompts) < 1e-4
    assert sampler.pushes == 1
    with torch.no_grad():
        model.lm_head.weight.data.mul_(2)
    assert gap(sampler, model, prompts) < 1e-4
    push = ["/update_weight_version", "/collective_rpc", "/reset_prefix_cache", "/update_weight_version"]
    asked = ["/inference/v1/generate"] * 6
    assert server.calls == push + asked + asked + push + asked
    assert not list(tmp_path.iterdir())
    server.version = "default"  # started again
    server.model = small(seed=9)
    assert gap(sampler, model, prompts) < 1e-4
    assert sampler.pushes == 3


def test_a_tied_output_layer_goes_over_too(server, prompts):
    config = transformers.GPT2Config(vocab_size=26, n_embd=32, n_layer=1, n_head=1, n_positions=32)
    model, server.model = (transformers.GPT2LMHeadModel(config).eval() for _ in range(2))
    server.model.lm_head.weight = torch.nn.Parameter(server.model.lm_head.weight.clone())  # one of its own
    sampler = VllmServer(server.url)
    assert gap(sampler, model, prompts) < 1e-4
    sampler.close()


def test_completions_of_another_trainer_s_weights_are_refused(server, prompts):
    sampler = VllmServer(server.url)
    sampler.refresh = lambda model: (VllmServer.refresh(sampler, model), setattr(server, "version", "other"))[0]
    with pytest.raises(SamplerError, match="another version"):
        gap(sampler, small(), prompts)


def test_a_push_that_fails_half_way_is_made_again(server, prompts):
    sampler, model = VllmServer(server.url), small()
    gap(sampler, model, prompts)
    before = server.version
    server.resets = False
    with pytest.raises(SamplerError, match="prefix cache of old weights"):
        sampler.refresh(small(seed=1))
    server.resets = True
    assert server.version != before
    assert gap(sampler, model, prompts) < 1e-4  # the weights from before, which the server does not hold any more


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"mode": "raw_logprobs"}, SettingError, "gives raw_logprobs.*--logprobs-mode processed_logprobs"),
        ({"known": False}, SamplerError, "does not know /server_info; start it with VLLM_SERVER_DEV_MODE=1"),
    ],
)
def test_a_server_that_was_started_wrongly_is_one_line(server, prompts, change, error, text):
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(error, match=text) as found:
        gap(VllmServer(server.url), small(), prompts)
    assert "\n" not in str(found.value)


def test_no_server_and_no_room_are_one_line(server, prompts):
    with pytest.raises(SamplerError, match=r"no vLLM server answers at http://127.0.0.1:9 \(.*refused\)"):
        Sampling(sampler="vllm-server", sampler_url="http://127.0.0.1:9").make().complete(
            small(), *prompts, torch.arange(2), (0, "x", 0), 5, eos=1, temperature=1.0
        )
    policy = CausalPolicy(small(), 1, sampler=VllmServer(server.url))
    with pytest.raises(SettingError, match="need 68 tokens, the engine has room for 40"):
        policy.complete(*prompts, torch.arange(2), (0, "x", 0), 60)
    with pytest.raises(SamplerError, match="cannot write weights to /proc"):
        gap(VllmServer(server.url, folder="/proc/weights"), small(seed=2), prompts)


def _process(rank, folder, url, prompts, sharded, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        sampler, model = VllmServer(url, folder=f"{folder}/weights"), small(seed=4)
        if sharded:
            model = shard(model, Ranks(rank, 2, sharded=True))
            with gathered(model):  # as a training step asks
                sampler.refresh(model)
        out.put((rank, gap(sampler, model, prompts), sampler.pushes))
    except PolytheoryError as error:
        out.put((rank, str(error), 0))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("works", "sharded"), [(True, False), (True, True), (False, False)])
def test_of_two_processes_one_pushes_and_both_hear_how_it_went(server, prompts, tmp_path, works, sharded):
    server.resets = works
    fork = multiprocessing.get_context("fork")
    out = fork.Queue()
    both = [fork.Process(target=_process, args=(r, str(tmp_path), server.url, prompts, sharded, out)) for r in (0, 1)]
    for process in both:
        process.start()
    found = sorted(out.get(timeout=60) for _ in both)
    for process in both:
        process.join(30)
    if works:
        assert [x[2] for x in found] == [1, 0]
        assert all(x[1] < 1e-4 for x in found)
    else:
        assert all("prefix cache" in x[1] for x in found)
