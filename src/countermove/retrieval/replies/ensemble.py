"""Several engines as one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.plan import Plan, read_engines


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The scores of several engines are averaged, each brought to mean 0 and deviation 1 for every query.

    A query that is made on one engine's backbone may be found by others.

    engines: beside the one that is asked, spelled as models.
    """

    version: ClassVar[int] = 1
    engines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.engines:
            raise ConfigError("countermove 'ensemble' needs engines beside the one that is asked: engines=[gist]")
        object.__setattr__(self, "engines", read_engines(self.engines, "ensemble"))

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with more engines."""
        twice = set(plan.engines) & set(self.engines)
        if twice:
            raise ConfigError(f"countermove 'ensemble': {min(twice)} stands twice in a reply")
        return replace(plan, engines=(*plan.engines, *self.engines))
