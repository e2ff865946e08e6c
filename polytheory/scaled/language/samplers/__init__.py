"""Ways to complete prompts: our own cached sampler, transformers' ``generate``, vLLM in this process, a vLLM server."""
