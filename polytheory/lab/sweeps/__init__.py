"""Sweeps: methods x environments x settings x seeds, run once, kept as small files, collected as one tidy table."""

from polytheory.lab.sweeps.cells import Cell as Cell
from polytheory.lab.sweeps.cells import Job as Job
from polytheory.lab.sweeps.collecting import Standing as Standing
from polytheory.lab.sweeps.collecting import collect as collect
from polytheory.lab.sweeps.collecting import standing as standing
from polytheory.lab.sweeps.study import Environment as Environment
from polytheory.lab.sweeps.study import Method as Method
from polytheory.lab.sweeps.study import Study as Study
