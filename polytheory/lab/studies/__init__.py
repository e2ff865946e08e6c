"""Studies that ship, and figures with findings from the results of any study."""

from polytheory.lab.studies.answer import Answer as Answer
from polytheory.lab.studies.answer import answer as answer
from polytheory.lab.studies.library import Computed as Computed
from polytheory.lab.studies.library import about as about
from polytheory.lab.studies.library import asked as asked
from polytheory.lab.studies.library import load as load
from polytheory.lab.studies.library import names as names
from polytheory.lab.studies.library import results as results
from polytheory.lab.studies.question import Question as Question
from polytheory.lab.studies.question import questions as questions
