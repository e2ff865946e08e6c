"""Post-training of language models: methods as lists of pure parts."""
