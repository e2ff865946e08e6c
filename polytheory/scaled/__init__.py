"""The same methods in torch: many replicas at once, deep networks, GPUs."""
