"""A narrower band of speech."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.errors import ConfigError
from countermove.profiles.plan import Plan
from countermove.profiles.sound import low_pass


@dataclass(frozen=True, kw_only=True)
class LowPass:
    """High frequencies are taken from every clip, those of training profiles too.

    hertz: what is above goes; a telephone keeps 3,400.
    """

    version: ClassVar[int] = 1
    hertz: float = 3400.0

    def __post_init__(self) -> None:
        if self.hertz <= 0:
            raise ConfigError(f"countermove 'low-pass': hertz = {self.hertz:g} is refused; it is above 0")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more squeeze."""
        hertz = self.hertz

        def squeeze(items: Tensor, rate: int) -> Tensor:
            return low_pass(items, rate, hertz)

        return plan.squeezed(f"low-pass {hertz!r}", "speech", squeeze)
