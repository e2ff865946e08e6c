"""What the two rooms of distributional dynamic programming share word for word: settings, and the order of the steps."""
