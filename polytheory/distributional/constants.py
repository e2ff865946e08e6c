"""What counts as rounding."""

TIE = 1e-12  # values nearer than this, relative to 1 + their size, are equal
EDGE = 1e-12  # probabilities that differ by less are one step of a distribution function
