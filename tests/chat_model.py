"""A small chat model as the hub has them, made here: byte-pair tokenizer with a chat template, two ends, a Llama or Qwen2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] not in ['system', 'user', 'assistant'] %}{{ raise_exception('unknown role ' + m['role']) }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = [
    "How many apples are 12 and 7? The answer is 19.",
    "system user assistant\n",
    "#### 0123456789 \\boxed{} <think></think>",
]


def make_tokenizer(*, chat: bool = True, **settings: Any) -> Any:
    """Byte-pair tokenizer without a padding token, as Llama's; ``<|im_end|>`` ends a turn where it can chat."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXT, trainer)
    end = {"eos_token": SPECIAL[2] if chat else SPECIAL[0]}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, **{**end, **settings})
    if chat:
        made.chat_template = TEMPLATE
    return made


def make_model(tokenizer: Any, kind: str = "Llama", **settings: Any) -> Any:
    """Random weights, which hang on nothing but the kind; ends as generation_config.json of chat models lists them."""
    config = getattr(transformers, f"{kind}Config")(**{
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 64, "max_position_embeddings": 256, "tie_word_embeddings": True,
        "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, **settings,
    })  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    made.generation_config.eos_token_id = [2, 0]
    return made


def write_chat_model(folder: Path, kind: str = "Llama", *, chat: bool = True, **settings: Any) -> Path:
    """Save tokenizer and model as a folder that `from_pretrained` reads."""
    tokenizer = make_tokenizer(chat=chat)
    tokenizer.save_pretrained(folder)
    make_model(tokenizer, kind, **settings).save_pretrained(folder)
    return folder
