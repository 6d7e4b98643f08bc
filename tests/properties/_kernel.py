"""The guard as Linux has it: one integer (use_pde, unuse_pde, proc_entry_rundown)."""

from __future__ import annotations

from typing import Final

BIAS: Final = -(1 << 31)


class KernelCount:
    """What ``in_use`` is at each moment, and when the remover's completion is sent."""

    def __init__(self) -> None:
        self.in_use = 0
        self.waits = False
        """Whether the remover sleeps until the completion comes."""
        self.sent = 0
        """How often it was sent."""

    @property
    def dying(self) -> bool:
        return self.in_use < 0

    @property
    def drained(self) -> bool:
        return self.in_use == BIAS

    @property
    def inside(self) -> int:
        return self.in_use - BIAS if self.dying else self.in_use

    def use_pde(self) -> bool:
        if self.in_use < 0:
            return False
        self.in_use += 1
        return True

    def unuse_pde(self) -> None:
        self.in_use -= 1
        if self.in_use == BIAS:
            self.sent += 1

    def add_bias(self) -> None:
        self.in_use += BIAS
        self.waits = self.in_use != BIAS
