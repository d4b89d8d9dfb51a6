"""Changed pictures in the collection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.retrieval.edits.crop import check_share
from countermove.retrieval.plan import Leak, Plan, read_known


@dataclass(frozen=True, kw_only=True)
class Leaked:
    """What a query should find is indexed as changed by a move, Liu et al. 2019, arXiv:1901.10332.

    Changed pictures find their way into collections: of every query's relevant pictures, the first by row stand in
    the index in their changed version, in place of the clean ones.

    share: of each query's relevant pictures (paper: all of two queries').
    move:  by which they are changed, spelled; "": the query's own, with the same settings. The paper has both: the same
           number of steps, and fewer than the query's.
    """

    version: ClassVar[int] = 1
    share: float = 1.0
    move: str = ""

    def __post_init__(self) -> None:
        check_share("leaked", self.share)
        if self.move:
            object.__setattr__(self, "move", read_known((self.move,), "leaked")[0])

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with a leak."""
        if plan.leaked is not None:
            raise ConfigError("countermove 'leaked' stands twice in a reply; a picture is indexed once")
        return replace(plan, leaked=Leak(share=self.share, move=self.move))
