"""Training a language model from a recipe: what is trained on what, run, shown and saved."""
