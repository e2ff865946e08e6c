"""polytheory: reinforcement-learning methods from theorem to practice."""

__version__ = "0.1.0"
