"""Compression of speech as telephones do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from countermove.errors import ConfigError
from countermove.profiles.plan import Plan
from countermove.profiles.sound import mu_law


@dataclass(frozen=True, kw_only=True)
class MuLaw:
    """The mu-law companding of ITU-T G.711 for every clip, those of training profiles too: few levels, finer near zero.

    bits: a sample; telephones take 8.
    """

    version: ClassVar[int] = 1
    bits: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 15:
            raise ConfigError(f"countermove 'mu-law': bits = {self.bits} is refused; it is a number from 2 to 15")

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with one more squeeze."""
        bits = self.bits

        def squeeze(items: Tensor, _rate: int) -> Tensor:
            return mu_law(items, bits=bits)

        return plan.squeezed(f"mu-law {bits}", "speech", squeeze)
