"""The collections of this arena. Each is a frozen dataclass that is called with the user's data folder."""

from __future__ import annotations

DATA: dict[str, str] = {}
