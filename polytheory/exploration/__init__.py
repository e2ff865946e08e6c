"""What the two rooms of the exploration methods share word for word: settings with their ranges, radii, learning rates."""
