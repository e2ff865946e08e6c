"""One update at a time, with every quantity: what goes into each named part of a method, and what comes out."""

from polytheory.lab.tracing.quantities import Quantity as Quantity
from polytheory.lab.tracing.recorder import Call as Call
from polytheory.lab.tracing.trace import Trace as Trace
from polytheory.lab.tracing.trace import trace as trace
