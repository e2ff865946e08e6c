"""Array annotations that are checked under test and free at run time.

The test suite installs jaxtyping's import hook before it imports polytheory; only then are the annotations real.
Otherwise they are never evaluated (every module says ``from __future__ import annotations``).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool as Bool
    from jaxtyping import Float as Float
    from jaxtyping import Int as Int
    from jaxtyping import Shaped as Shaped
else:

    class _Unchecked:
        def __getitem__(self, item: object) -> object:
            return Any

    Bool = Float = Int = Shaped = _Unchecked()

Array = Any  # NumPy array or torch tensor; the dtype and shape are what is checked
