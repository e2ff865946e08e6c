"""The policies of this family: those of policy gradients."""

from polytheory.reference.policy_gradient.softmax import LinearSoftmax as LinearSoftmax
from polytheory.reference.policy_gradient.softmax import TabularSoftmax as TabularSoftmax
