"""The move of this arena: a network is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Published:
    """The network is published as it is; nobody changes the task's texts."""

    version: ClassVar[int] = 1
