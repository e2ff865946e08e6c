"""Tabular policies of the family: one row of logits per context and replica."""

from __future__ import annotations

from polytheory.scaled.policy_gradient.softmax import TabularSoftmax as TabularSoftmax
