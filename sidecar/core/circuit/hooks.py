"""What a circuit needs from its process, and whom it tells of its transitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.circuit.explanation import Transition


@dataclass(frozen=True, slots=True)
class Hooks:
    """What all circuits of a process share: chance (0–1), who hears of transitions, and who hears that this failed.

    A listener may look at the circuit but not change it; `listener_failed` must not raise.
    """

    random: Callable[[], float]
    listener: Callable[[Transition], None]
    listener_failed: Callable[[Exception], None]

    def tell(self, transition: Transition) -> bool:
        """Let the listener know; False when it failed, which has been told then."""
        try:
            self.listener(transition)
        except Exception as error:  # noqa: BLE001 - whatever a listener does, the circuit goes on (breaker.md 28)
            self.listener_failed(error)
            return False
        return True
