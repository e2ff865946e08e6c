"""What the world is: tabular, linear and block MDPs, named examples, readers of other formats."""

from polytheory.models.tabular import GridLayout as GridLayout
from polytheory.models.tabular import RewardAtoms as RewardAtoms
from polytheory.models.tabular import SuccessorTable as SuccessorTable
from polytheory.models.tabular import TabularMDP as TabularMDP
