"""Several engines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Scores of other engines are added, each engine's brought to 0..1 for every query before.

    engines: the others, spelled as models.
    """

    version: ClassVar[int] = 1
    engines: tuple[str, ...] = ("global",)

    def __post_init__(self) -> None:
        from countermove.retrieval.methods import METHODS  # it lists the countermoves, too

        if not self.engines:
            raise ConfigError("countermove 'ensemble': engines = [] is refused; name one, such as [global]")
        read = [METHODS.compose("model", engine) for engine in self.engines]
        _ = [composition.method for composition in read]
        object.__setattr__(self, "engines", tuple(composition.spelling for composition in read))

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the engines."""
        plan.once("ensemble", "engines")
        return replace(plan, engines=self.engines)
