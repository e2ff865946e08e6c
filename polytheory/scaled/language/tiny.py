"""A transformer small enough to train on two cores, and its character tokenizer: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch

from polytheory.errors import SettingError, require

PAD, EOS = "<pad>", "<eos>"
ALPHABET = "0123456789Q=+-*%,:()[]{}"


def character_tokenizer(alphabet: str = ALPHABET) -> Any:
    """A transformers tokenizer with one token per character, ``<pad>`` 0 and ``<eos>`` 1.

    A character outside the alphabet becomes ``<pad>``, so that a verifier never takes it for another one.
    Raises `SettingError` when a character occurs twice, `MissingExtraError` without transformers.
    """
    if len(set(alphabet)) != len(alphabet):
        twice = next(c for c in alphabet if alphabet.count(c) > 1)
        raise SettingError(f"the alphabet holds {twice!r} twice; give every character once")
    transformers, tokenizers = require("transformers", "lm"), require("tokenizers", "lm")
    vocabulary = {token: i for i, token in enumerate((PAD, EOS, *alphabet))}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=PAD))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    inner.decoder = tokenizers.decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, eos_token=EOS, unk_token=PAD, padding_side="left"
    )


def tiny_model(
    vocabulary: int,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    feed_forward: int = 256,
    positions: int = 128,
    seed: int = 0,
) -> Any:
    """A Llama of random weights, float32, untied embeddings, eager attention (133 thousand parameters by default).

    Eager attention is faster than the fused kernels at these lengths, and has a second derivative. The weights depend on
    ``seed`` alone; torch's global generator is left as it was.
    """
    transformers = require("transformers", "lm")
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads, intermediate_size=feed_forward, max_position_embeddings=positions,
        tie_word_embeddings=False, pad_token_id=0, bos_token_id=None, eos_token_id=1, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(config).to(torch.float32)
