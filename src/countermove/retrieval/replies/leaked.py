"""Changed pictures in the collection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.plan import Leak, Plan


@dataclass(frozen=True, kw_only=True)
class Leaked:
    """Pictures that the query should find are in the collection changed, too (thesis, table 5.5).

    Who changes all their pictures leaks some to where engines collect. They then resemble a changed query in what the
    change made of it.

    share: of every query's right answers that are changed, chosen by id.
    move:  how they were changed, spelled as a move; empty: as the query. Where nobody moves and none is named, nothing
           is leaked.
    """

    version: ClassVar[int] = 1
    share: float = 1.0
    move: str = ""

    def __post_init__(self) -> None:
        from countermove.retrieval.methods import METHODS  # it lists the countermoves, too

        if not 0 < self.share <= 1:
            raise ConfigError(f"countermove 'leaked': share = {self.share:g} is refused; it lies in 0..1, above 0")
        if self.move:
            object.__setattr__(self, "move", METHODS.compose("move", self.move).spelling)

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with the leak."""
        plan.once("leaked", "leaked")
        return replace(plan, leaked=Leak(share=self.share, move=self.move))
