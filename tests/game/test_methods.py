"""Methods are found, described without being imported, and built strictly."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from countermove.errors import ConfigError
from countermove.game import arena as arenas
from countermove.game import methods as rules
from countermove.game.methods import Methods, build, load, read_sheet

TARGETS: dict[rules.Kind, dict[str, str]] = {
    "move": {"none": "coin_arena:NoMove", "loaded": "coin_arena:Loaded", "shaved": "coin_arena:Shaved"},
    "countermove": {"none": "coin_arena:NoCountermove", "shake": "coin_arena:Shake", "scale": "coin_arena:Scale"},
    "data": {"purse": "coin_arena:Purse"},
}


@pytest.fixture
def methods() -> Methods:
    return Methods("coin", TARGETS)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A method with a setting of every kind."""

    version: ClassVar[int] = 1

    eps: float = 8 / 255
    steps: int = 3
    form: Literal["sample", "class"] = "sample"
    folder: Path | None = None
    flip: bool = False
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Fussy:
    """A method that checks its settings itself."""

    version: ClassVar[int] = 1

    eps: float = 0.5

    def __post_init__(self) -> None:
        if self.eps > 1:
            raise ConfigError("eps = 8 is no radius in [0, 1]; did you mean 8/255?")


def built(**settings: Any) -> Sample:
    return build(Sample, settings, what="move 'sample'")


def test_unknown_names_come_with_the_nearest_known(methods: Methods) -> None:
    with pytest.raises(ConfigError, match=r"unknown move 'laoded' in the coin arena: did you mean 'loaded'\?"):
        methods.compose("move", "laoded")
    with pytest.raises(ConfigError, match=r"unknown model 'thumb' in the coin arena: nothing is known there"):
        methods.compose("model", "thumb")


def test_unknown_settings_come_with_the_nearest_known(methods: Methods) -> None:
    with pytest.raises(ConfigError, match=r"move 'loaded' has no setting 'biass': did you mean 'bias'\?"):
        methods.compose("move", "loaded(biass=0.4)")


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 2.5},
        {"steps": "many"},
        {"steps": True},
        {"eps": False},
        {"eps": "wide"},
        {"eps": float("nan")},
        {"eps": float("inf")},
        {"eps": "nan"},
        {"form": "neither"},
        {"flip": "perhaps"},
        {"sizes": 3},
        {"sizes": ["a"]},
    ],
)
def test_values_of_the_wrong_kind_are_refused(settings: dict[str, Any]) -> None:
    (key,) = settings
    with pytest.raises(ConfigError, match=rf"move 'sample': {key}.* is refused"):
        built(**settings)


def test_values_of_the_right_kind_are_taken() -> None:
    method = built(eps="8/255", steps=4, form="class", folder="a/b", flip=True, sizes=[3])
    assert method == Sample(eps=8 / 255, steps=4, form="class", folder=Path("a/b"), flip=True, sizes=(3,))
    assert built(eps="0/255").eps == 0
    assert built(eps=1).eps == 1


def test_a_method_may_refuse_its_settings_in_its_own_words() -> None:
    with pytest.raises(ConfigError, match=r"eps = 8 is no radius in \[0, 1\]; did you mean 8/255"):
        build(Fussy, {"eps": 8}, what="move 'fussy'")


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("loaded", "loaded"),
        ("loaded(bias=0.9)", "loaded"),
        ("loaded( bias = 0.40 )", "loaded(bias=0.4)"),
        ("loaded(bias=8/255)", "loaded(bias=8/255)"),
        ("shaved + loaded(bias=1)", "shaved+loaded(bias=1.0)"),
    ],
)
def test_compositions_have_one_spelling(methods: Methods, given: str, canonical: str) -> None:
    composed = methods.compose("move", given)
    assert composed.spelling == canonical
    assert methods.compose("move", composed.spelling).identity() == composed.identity()


def test_identity_holds_every_setting_the_version_and_the_content(methods: Methods) -> None:
    (scale,) = methods.compose("countermove", "scale").identity()["parts"]
    assert scale == {"name": "scale", "settings": {"grams": 2.0}, "version": 1}
    small, large = (methods.compose("data", f"purse(size={n})").identity()["parts"][0] for n in (3, 4))
    assert len(small["content"]) == 64
    assert small["content"] != large["content"]


def test_a_composition_with_several_methods_has_no_single_one(methods: Methods) -> None:
    assert methods.compose("move", "loaded").method.bias == 0.9
    with pytest.raises(ConfigError, match="joins several methods"):
        _ = methods.compose("move", "loaded+shaved").method
    assert methods.compose("move", "none").is_none
    assert not methods.compose("move", "none+loaded").is_none


def test_a_sheet_is_read_from_the_source(methods: Methods) -> None:
    sheet = methods.sheet("move", "loaded")
    assert sheet.summary == "Coins with a heavy side"
    assert sheet.paper == "Bernoulli 1713, Ars Conjectandi"
    assert sheet.fields == (("bias", "float", "0.9"),)
    assert "share of the guesses" in sheet.doc
    listing = sheet.listing()
    assert {"name", "kind", "arena", "paper", "summary"} <= listing.keys()
    assert json.loads(json.dumps(listing)) == listing


def test_every_registered_method_has_a_sheet(methods: Methods) -> None:
    listed = {(sheet.kind, sheet.name) for sheet in methods.sheets()}
    assert listed == {(kind, name) for kind in rules.KINDS for name in methods.names(kind)}
    assert all(sheet.summary for sheet in methods.sheets())


def test_sheets_import_nothing_that_they_describe() -> None:
    script = (
        "import sys\n"
        "from countermove.game.methods import read_sheet\n"
        "sheet = read_sheet('loaded', 'move', 'coin', 'coin_arena:Loaded')\n"
        "assert sheet.summary, sheet\n"
        "print([name for name in ('torch', 'coin_arena') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_third_party_adds_a_method_through_an_entry_point(methods: Methods) -> None:
    assert "magnet" in methods.names("move")
    assert methods.compose("move", "magnet(pull=0.25)").method.strength == 0.25
    assert methods.sheet("move", "magnet").paper == "Doe et al. 2031, arXiv:3101.00001"
    assert Methods("other", {}).names("move") == []


def test_a_third_party_adds_an_arena_through_an_entry_point() -> None:
    assert arenas.arena_class("coin").name == "coin"
    with pytest.raises(ConfigError, match=r"unknown arena 'coins': did you mean 'coin'\?"):
        arenas.arena_class("coins")


def _registered(monkeypatch: pytest.MonkeyPatch, module: Any, *entries: EntryPoint) -> None:
    found = EntryPoints(entries)
    monkeypatch.setattr(module, "entry_points", lambda *, group: found.select(group=group))


def test_a_name_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = EntryPoint("loaded", "elsewhere:Loaded", "countermove.coin.move")
    _registered(monkeypatch, rules, mine)
    with pytest.raises(ConfigError, match=r"move 'loaded' is registered twice; elsewhere:Loaded must choose another"):
        Methods("coin", TARGETS)


def test_two_third_parties_cannot_share_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    group = "countermove.coin.move"
    _registered(monkeypatch, rules, EntryPoint("x", "one:X", group), EntryPoint("x", "two:X", group))
    with pytest.raises(ConfigError, match=r"move 'x' is registered twice; two:X must choose another"):
        Methods("coin", TARGETS)


def test_an_arena_cannot_take_the_place_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    _registered(monkeypatch, arenas, EntryPoint("unlearnable", "evil:Arena", "countermove.arenas"))
    with pytest.raises(ConfigError, match="arena 'unlearnable' is registered twice"):
        arenas.arena_targets()


@pytest.mark.parametrize("target", ["no_such_module_here:X", "no.such.module:X", "coin_arena:NoSuchClass"])
def test_a_registration_that_leads_nowhere_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="no such"):
        read_sheet("x", "move", "coin", target)
    with pytest.raises(ConfigError, match="cannot be imported"):
        load(target)
