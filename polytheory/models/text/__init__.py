"""Text problems with exact verifiers: what a language model is trained and measured on where nothing is downloaded."""
