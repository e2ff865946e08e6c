"""Tabular policies of the family: one row of logits per context."""

from __future__ import annotations

from polytheory.reference.policy_gradient.softmax import TabularSoftmax as TabularSoftmax
