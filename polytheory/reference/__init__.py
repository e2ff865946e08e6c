"""The methods exactly as their theorems state them: NumPy, float64, clear before fast."""
