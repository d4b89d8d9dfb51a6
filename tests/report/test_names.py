"""A study's names in place of spellings: where they stand, and where they must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from countermove.game.config import StudyConfig
from countermove.report.names import NO_NAMES, Names
from countermove.report.page import render_page
from countermove.report.source import Report
from countermove.report.text import text

NAMES = Names(
    {
        "nat-i": "NatI",
        "nat-i(choice=greedy)": "NatI, greedy",
        "neural": "Neural",
        'neural(backbone="small(build=1)")': "Neural, another",
        "gray+jpeg": "Both",
    }
)


@pytest.mark.parametrize(
    ("spelled", "wanted"),
    [
        ("nat-i", "NatI"),
        ("nat-i: broken; against nat-i(choice=greedy).", "NatI: broken; against NatI, greedy."),
        ("nat-i(choice=best)", "nat-i(choice=best)"),
        ('none with neural(backbone="small(build=1)")', "none with Neural, another"),
        ("noise(like='nat-i')", "noise(like='nat-i')"),
        ("gray", "gray"),
        ("gray+jpeg", "Both"),
        ("gray+jpeg+blur", "gray+jpeg+blur"),
        ("neurally", "neurally"),
        ("a-neural", "a-neural"),
    ],
)
def test_a_name_stands_for_a_whole_spelling(spelled: str, wanted: str) -> None:
    assert NAMES.words(spelled) == wanted
    assert NO_NAMES.words(spelled) == spelled


def test_sentences_keep_their_own_words() -> None:
    assert NAMES.prose("A neural engine and nat-i(choice=greedy)") == "A neural engine and NatI, greedy"


def studied(report: Report, names: dict[str, str]) -> Report:
    study = StudyConfig(title="A study", paper="nobody's", names=names)
    config = report.results.config.model_copy(update={"study": study})
    return replace(report, results=replace(report.results, config=config))


def test_names_are_those_that_stand_for_one_entry(report: Report) -> None:
    assert Names.of(report.results) == NO_NAMES
    given = {"Trick": "shaved( angle=80.0 )", "Nothing": "none", "Elsewhere": "scale(grams=77)"}
    assert Names.of(studied(report, given).results).by_spelling == {"shaved(angle=80.0)": "Trick"}
    twice = {"One": "shaved(angle=80.0)", "Other": "shaved(angle=80.0)"}
    assert Names.of(studied(report, twice).results).by_spelling == {}


def test_people_read_names_and_files_spellings(report: Report) -> None:
    named = studied(report, {"<Trick>": "shaved(angle=80.0)"})
    page = render_page(named)
    seen, _, cells = page.partition('<section id="cells"')
    assert "&lt;Trick&gt;" in seen
    assert "<Trick>" not in page
    assert "<td><code>shaved<wbr>(angle<wbr>=80.0)</code></td>" in seen, "the legend says what it stands for"
    assert "<td>shaved(angle=80.0)</td>" in cells
    assert "Trick" not in cells
    shown = text(named.results, named.verdict)
    assert "<Trick>" in shown
    assert "80.0" not in shown
