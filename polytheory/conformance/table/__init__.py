"""The conformance table: what a setting of TRL or verl computes on one small batch, and whether that is the paper's formula."""
