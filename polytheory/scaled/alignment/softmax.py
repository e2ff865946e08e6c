"""The policies of this family: those of policy gradients."""

from polytheory.scaled.policy_gradient.softmax import LinearSoftmax as LinearSoftmax
from polytheory.scaled.policy_gradient.softmax import TabularSoftmax as TabularSoftmax
