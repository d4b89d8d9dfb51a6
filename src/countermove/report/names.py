"""A study's own words for entries of its axes, so that people read PIRE-final where files spell it out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from countermove.game.methods import KINDS
from countermove.game.results import Results
from countermove.report.published import canonical

_BEFORE, _AFTER = r"(?<![\w(=\[+\"'-])", r"(?![\w(=+-])"
"""A spelling stands alone: it is no part of another one."""


@dataclass(frozen=True)
class Names:
    """Names by the spelling that they stand for."""

    by_spelling: Mapping[str, str]

    @classmethod
    def of(cls, results: Results) -> Names:
        """Return the names of a run's study that stand for one entry of one axis each; none where it has no study."""
        study = results.config.study
        found: dict[str, list[str]] = {}
        for name, spelled in (study.names if study else {}).items():
            for kind in KINDS:
                text = canonical(results.arena, kind, spelled)
                if text in results.axis(kind):
                    found.setdefault(text, []).append(name)
        return cls({text: names[0] for text, names in found.items() if text != "none" and len(set(names)) == 1})

    def words(self, text: str) -> str:
        """Put names into a text in place of the spellings in it."""
        return self._put(text, self.by_spelling)

    def prose(self, text: str) -> str:
        """Put names into sentences: only where a spelling cannot be a word of theirs."""
        return self._put(text, [spelled for spelled in self.by_spelling if "(" in spelled])

    def _put(self, text: str, spellings: Collection[str]) -> str:
        if not spellings:
            return text
        longest_first = sorted(spellings, key=len, reverse=True)
        pattern = _BEFORE + "(" + "|".join(map(re.escape, longest_first)) + ")" + _AFTER
        return re.sub(pattern, lambda match: self.by_spelling[match[1]], text)


NO_NAMES = Names({})
