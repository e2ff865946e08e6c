"""Causal language models as policies: tiny models made here, samplers, log-probabilities, and the trainer's algorithms."""
