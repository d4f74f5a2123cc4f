"""What only the garbage collector frees: objects of the sidecar that hold each other after their use."""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def collected() -> Iterator[Counter[str]]:
    """Counts, by class, the sidecar's objects that the block leaves to the garbage collector; filled at its end."""
    found: Counter[str] = Counter()
    gc.collect()
    flags = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
    finally:
        gc.set_debug(flags)
        kinds = (type(each) for each in gc.garbage)
        found.update(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if _is_ours(kind))
        gc.garbage.clear()
        gc.collect()


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "sidecar"
