"""Models and tokenizers as the hub has them: what ends a completion, what is padded, and pairs that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chat_model import make_model as chat_model
from chat_model import make_tokenizer, write_chat_model
from transformers import AutoModelForCausalLM

from polytheory.access import Key, Requests
from polytheory.access.language import Demonstrations, Prompts, WeightedReward
from polytheory.errors import ColumnError, SettingError
from polytheory.lab.training.models import check_model, ends, limit, make_model
from polytheory.lab.training.recipe import Start
from polytheory.scaled.language.adapters import Lora
from polytheory.scaled.language.policy import CausalPolicy

CHAT = [{"role": "user", "content": "12?"}]


def prompts(rows, tokenizer):
    return Prompts({"prompt": rows}, tokenizer, [WeightedReward("none", lambda c: [0.0] * len(c))], max_length=4)


@pytest.mark.parametrize("kind", ["Llama", "Qwen2"])
def test_a_folder_of_the_hub_s_kind_is_read(tmp_path, kind):
    write_chat_model(tmp_path, kind)
    model, tokenizer = make_model(Start(model=str(tmp_path)), Lora(), 0, "cpu")
    assert ends(model, tokenizer) == (2, 0)  # <|im_end|> of a turn, <|endoftext|> of a text
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id == (2 if kind == "Llama" else 0)  # Qwen2's own; the end where there is none
    assert limit(model) == 256
    half, _ = make_model(Start(model=str(tmp_path), dtype="bfloat16"), Lora(lora_rank=2), 0, "cpu")
    kinds = {p.requires_grad: p.dtype for p in half.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


@pytest.mark.parametrize("kind", ["Llama", "Qwen2"])
def test_padding_does_not_change_a_prompt_s_law(kind):
    tokenizer = make_tokenizer()
    policy = CausalPolicy(chat_model(tokenizer, kind), (2, 0))
    world = prompts([CHAT, [{"role": "user", "content": "How many apples are 12 and 7?"}]], tokenizer)
    key, rows = Key(0, "x", 0), np.array([0, 1])
    together = world.rollouts(policy, Requests(rows, 4, rows), key)
    alone = world.rollouts(policy, Requests(rows[:1], 4, rows[:1]), key)
    t = alone.actions.shape[1]
    assert torch.equal(alone.actions, together.actions[:1, :t])
    # float32 products in batches of another size: some 1e-7 of logits of size 1
    assert (alone.log_probs_sampler - together.log_probs_sampler[:1, :t]).abs().max() < 1e-4
    columns = {**together.columns, "actions": together.actions, "mask": together.mask}
    assert (policy.log_probs(columns) - together.log_probs_sampler).abs().max() < 1e-4


def test_messages_go_through_the_template_and_ask_for_an_answer():
    tokenizer = make_tokenizer()
    ids = prompts([CHAT], tokenizer)._ids[0]
    assert tokenizer.decode(ids) == "<|im_start|>user\n12?<|im_end|>\n<|im_start|>assistant\n"
    data = Demonstrations({"prompt": [CHAT], "completion": [[{"role": "assistant", "content": "19"}]]}, tokenizer)
    row = data.next_rows(Key(0, "x", 0), 0, 1)
    assert tokenizer.decode(row["actions"][0]) == "19<|im_end|>"


def test_texts_begin_as_the_tokenizer_begins_them():
    plain, begun = make_tokenizer(chat=False), make_tokenizer(chat=False, bos_token="<|im_start|>")
    from tokenizers import processors

    begun._tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|endoftext|>", special_tokens=[("<|im_start|>", 1), ("<|endoftext|>", 0)]
    )
    ids = plain("12?").input_ids
    assert prompts(["12?"], plain)._ids == [ids]
    assert prompts(["12?"], begun)._ids == [[1, *ids]]  # begun once, and not ended
    assert prompts(["<|im_start|>12?"], begun)._ids == [[1, *ids]]


def test_prompts_that_cannot_be_asked_are_named():
    tokenizer = make_tokenizer()
    for rows, text in (
        ([[{"role": "tool", "content": "x"}]], "refuses prompt 0.*unknown role tool"),
        (["a", ""], "prompt 1 is '', which has no token"),
        (["a", CHAT], "mixes kinds"),
    ):
        with pytest.raises(ColumnError, match=text):
            prompts(rows, tokenizer)
    with pytest.raises(ColumnError, match="no chat template"):
        prompts([CHAT], make_tokenizer(chat=False))
    with pytest.raises(ColumnError, match="completion 0 is 3"):
        Demonstrations({"prompt": ["a"], "completion": [3]}, tokenizer)


def test_models_that_would_train_on_wrong_numbers_are_refused(tmp_path):
    tokenizer = make_tokenizer()
    check_model(chat_model(tokenizer), tokenizer, "x")
    with pytest.raises(SettingError, match="soft cap or a scale"):
        check_model(chat_model(tokenizer, "Cohere", logit_scale=0.1, pad_token_id=0, bos_token_id=1), tokenizer, "x")
    with pytest.raises(SettingError, match="do not belong together"):
        check_model(chat_model(tokenizer, vocab_size=100), tokenizer, "x")
    with pytest.raises(SettingError, match="no position_ids"):
        check_model(chat_model(tokenizer, "Mamba", state_size=4, num_attention_heads=None), tokenizer, "x")
    endless = make_tokenizer(eos_token=None)
    model = chat_model(endless)
    model.generation_config.eos_token_id = None
    with pytest.raises(SettingError, match="could not end"):
        check_model(model, endless, "x")


def test_code_of_a_model_runs_only_when_asked(tmp_path):
    write_chat_model(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        config.replace(
            "{", '{\n"auto_map": {"AutoConfig": "mine.MyConfig", "AutoModelForCausalLM": "mine.MyModel"},', 1
        ).replace('"model_type": "llama"', '"model_type": "mine"')
    )
    (tmp_path / "mine.py").write_text("raise RuntimeError('code ran')\n")
    with pytest.raises(SettingError, match="trust_remote_code"):
        make_model(Start(model=str(tmp_path)), Lora(), 0, "cpu")
    with pytest.raises(SettingError, match="code ran"):
        make_model(Start(model=str(tmp_path), trust_remote_code=True), Lora(), 0, "cpu")


def test_tied_weights_are_one_after_a_reload(tmp_path):
    write_chat_model(tmp_path, tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
