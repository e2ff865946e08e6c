"""Small work, one thread; models and prompts that show what a sampler may get wrong; a server that starts beside the tests."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

# before vLLM is imported
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TORCHDYNAMO_DISABLE="1", VLLM_CPU_OMP_THREADS_BIND="nobind")

import pytest
import torch
import transformers

from polytheory.scaled.language.tiny import tiny_model

torch.set_num_threads(1)
VOCABULARY, LENGTH = 26, 300


def llama(seed=0):
    """Untied; weights large enough that the law is far from uniform, and that another temperature is another law."""
    return enlarged(tiny_model(VOCABULARY, positions=512, seed=seed))


def tied(kind, seed=0):
    """A model whose output layer is its embedding."""
    own = {"vocab_size": VOCABULARY, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1}
    configs = {
        "gpt2": lambda: transformers.GPT2Config(n_embd=64, n_layer=2, n_head=2, n_positions=512, **own),
        "qwen2": lambda: transformers.Qwen2Config(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=128,
            max_position_embeddings=512, **own,
        ),
    }  # fmt: skip
    torch.manual_seed(seed)
    return enlarged(transformers.AutoModelForCausalLM.from_config(configs[kind]()), 6.0)


def enlarged(model, factor=3.0):
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(factor if p.ndim > 1 else 1.0)
    return model.eval()


@pytest.fixture(scope="session")
def prompts():
    """Two prompts of different lengths, one of them longer than the blocks of vLLM's cache on a CPU (128 tokens)."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, VOCABULARY, (2, 200), generator=generator)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, :190] = False
    return ids, mask


@pytest.fixture(scope="session", autouse=True)
def started(request, tmp_path_factory):
    """A server that is starting, if a test asks for one: its processes import for a minute while the other tests run."""
    if not any("server" in item.fixturenames for item in request.session.items):
        yield None
        return
    folder = tmp_path_factory.mktemp("server")
    model = tied("qwen2", seed=9)
    # what a model of the hub may bring: none of it may reach the law
    model.generation_config.update(do_sample=True, top_k=1, repetition_penalty=2.0, temperature=0.1)
    model.save_pretrained(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # the module, since the command asks for the package by a name that its CPU build does not have
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "model"), "--port", str(port),
        "--host", "127.0.0.1", "--skip-tokenizer-init", "--enable-scale-out", "--dtype", "float32", "--enforce-eager",
        "--max-model-len", "400", "--max-num-seqs", "64", "--logprobs-mode", "processed_logprobs",
    ]  # fmt: skip
    own = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONWARNINGS": "ignore"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True, cwd=folder,
            preexec_fn=_ends_with_its_parent,
        )  # fmt: skip
    yield process, f"http://127.0.0.1:{port}", folder / "log"
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _ends_with_its_parent():
    """Linux: a server outlives no test run, not even one that is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


@pytest.fixture(scope="session")
def server(started):
    """Address of the server once it answers."""
    process, url, log = started
    deadline = time.monotonic() + 600
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return url
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}") from None
            time.sleep(1)
