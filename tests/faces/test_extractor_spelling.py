"""One extractor has one spelling, and it can stand inside whatever names extractors."""

from __future__ import annotations

import pytest

from countermove.errors import ConfigError
from countermove.faces.extractor import ERAS, identity, read_extractor
from countermove.faces.methods import METHODS


@pytest.mark.parametrize("era", ERAS)
def test_an_era_is_spelled_by_its_name_however_it_was_written(era: str) -> None:
    assert read_extractor(era, "test")[0] == era
    assert read_extractor(ERAS[era], "test") == read_extractor(era, "test")
    assert identity(ERAS[era]) == identity(era)


def test_eras_are_different_extractors() -> None:
    assert len({read_extractor(era, "test")[1] for era in ERAS}) == len(ERAS)


@pytest.mark.parametrize(
    "spelled", ["small(dim=16)", "small(loss=cosface, network='small-cnn(width=2)')", "small(dim=64)"]
)
def test_a_spelling_is_read_back(spelled: str) -> None:
    text, extractor = read_extractor(spelled, "test")
    assert read_extractor(text, "test") == (text, extractor)
    assert text not in ERAS


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("kind", "spelled"),
    [
        ("move", "lowkey(extractors=[{}])"),
        ("move", "in-turn(cloaks=['fawkes(extractors=[{}])', opom])"),
        ("countermove", "adaptive(known=['pgd(extractors=[{}], steps=3)'])"),
        ("countermove", "purifier(known=[lowkey, 'fawkes(extractors=[{}])'])"),
    ],
)
def test_every_era_can_stand_wherever_extractors_are_named(kind: str, spelled: str, era: str) -> None:
    assert kind in ("move", "countermove")
    first = METHODS.compose("move" if kind == "move" else "countermove", spelled.format(era))
    assert METHODS.compose("move" if kind == "move" else "countermove", first.spelling) == first


@pytest.mark.parametrize("move", ["fawkes", "fawkes-0.3", "lowkey", "opom", "pgd", "in-turn"])
def test_a_cloak_as_it_comes_is_spelled_by_its_name_alone(move: str) -> None:
    assert METHODS.compose("move", move).spelling == move


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("plane", "plain"),
        ("smal(dim=3)", "small"),
        ("plain+margin", "one extractor"),
        ("small(loss=triplet)", "softmax"),
        ("small(people=third)", "second"),
        ("small(augment=weak)", "strong"),
        ("small(dim=0)", "dim"),
        ("small(adversary=8)", "adversary"),
        ("small(network=small-cmn)", "small-cnn"),
        ("small(lr=inf)", "lr"),
    ],
)
def test_an_extractor_that_cannot_be_is_refused(spelled: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_extractor(spelled, "test")
