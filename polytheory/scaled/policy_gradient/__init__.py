"""Policy gradient in torch: many tabular replicas at once, networks, optimisers for any training loop."""
