"""Exercises that grade themselves: ``print(grade(my_function, "bellman-backup"))``."""

from polytheory.conformance.exercises.grading import Exercise as Exercise
from polytheory.conformance.exercises.grading import Verdict as Verdict
from polytheory.conformance.exercises.grading import exercise as exercise
from polytheory.conformance.exercises.grading import grade as grade
from polytheory.conformance.exercises.grading import names as names
