"""What a learner may ask of a world, and the meter that counts it."""

from polytheory.access._grants import Grant as Grant
from polytheory.access._grants import Key as Key
from polytheory.access._grants import Meter as Meter
from polytheory.access._grants import Requests as Requests
from polytheory.access._grants import Spec as Spec
from polytheory.access._grants import check_grants as check_grants
from polytheory.access.family import Family as Family
from polytheory.access.tabular import GenerativeModel as GenerativeModel
from polytheory.access.tabular import HybridResets as HybridResets
from polytheory.access.tabular import KnownModel as KnownModel
from polytheory.access.tabular import LocalSimulator as LocalSimulator
from polytheory.access.tabular import MuReset as MuReset
from polytheory.access.tabular import OfflineData as OfflineData
from polytheory.access.tabular import Online as Online
from polytheory.access.tabular import TabularAccess as TabularAccess

NAMED = {
    cls.__name__: cls
    for cls in (Online, MuReset, LocalSimulator, HybridResets, GenerativeModel, KnownModel, OfflineData)
}
