"""Two recognisers, two names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from countermove.errors import ConfigError
from countermove.faces.trainer import Plan


@dataclass(frozen=True, kw_only=True)
class Top2:
    """The names of the plain and of the adapted extractor are both returned, Radiya-Dixit et al. 2022.

    arXiv:2106.14851, section 3.5: who searches for a face looks at two names, and clean accuracy costs nothing. Stands
    behind adaptive: adaptive+top-2. A photo counts as named when one of the two names is right.
    """

    version: ClassVar[int] = 1

    def __call__(self, plan: Plan) -> Plan:
        """Return the plan with both recognisers."""
        return replace(joined(plan, "top-2"), mixture="top-2")


def joined(plan: Plan, name: str) -> Plan:
    """Refuse a plan that has nothing to join.

    Raises:
        ConfigError: when there is no adapted extractor, or there is a mixture already.
    """
    if plan.adaptation is None:
        raise ConfigError(f"countermove {name!r} joins the plain extractor with an adapted one; write adaptive+{name}")
    if plan.mixture:
        raise ConfigError(f"countermove {name!r} stands behind {plan.mixture!r}; take one of them")
    if plan.growing:
        raise ConfigError(f"countermove {name!r} joins two recognisers, and growing grows one's gallery; leave one out")
    return plan
