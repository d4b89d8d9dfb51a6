"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest
from tools import make_docs, make_sbom

from countermove.studies import studies

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_method_sheets_are_those_of_the_docstrings() -> None:
    assert make_docs.OUT.read_text(encoding="utf-8") == make_docs.render(), "run `make docs`"


def test_the_bill_of_materials_is_that_of_the_pins() -> None:
    assert make_sbom.OUT.read_text(encoding="utf-8") == make_sbom.render(), "run `make docs`"
    pinned = re.findall(r"^[\w.-]+==", make_sbom.PINS.read_text(encoding="utf-8"), re.MULTILINE)
    parts = make_sbom.components(make_sbom.PINS.read_text(encoding="utf-8"))
    assert len(parts) == len(pinned) > 20
    assert {"torch", "pillow", "safetensors", "numpy"} <= {part["name"] for part in parts}


@pytest.mark.parametrize("pins", ["a==1\n", "a>=1\n", "-r other.txt\n"])
def test_a_bill_is_refused_for_what_is_not_pinned(pins: str) -> None:
    with pytest.raises(ValueError, match=r"has no hash|neither"):
        make_sbom.components(pins)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_audit_file_of_the_readme_is_accepted(tmp_path: Path) -> None:
    from countermove.game.config import load_config
    from countermove.game.run import resolve

    toml = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert toml is not None
    (tmp_path / "my.toml").write_text(toml[1], encoding="utf-8")
    grid = resolve(load_config(tmp_path / "my.toml"))
    assert len(grid.cells) == 3 * 5 * 2 * 3  # moves, countermoves, models, seeds; none and the control are among them


@pytest.mark.parametrize("name", studies())
@pytest.mark.parametrize("size", ["mini", "paper"])
def test_every_study_is_a_valid_audit(name: str, size: Literal["mini", "paper"]) -> None:
    from countermove.game.arena import Rules, arena_class
    from countermove.game.config import load_config

    path = studies()[name]
    if size == "paper" and "[sizes.paper]" not in path.read_text(encoding="utf-8"):
        size = "mini"
    config = load_config(path, size=size)
    methods = arena_class(config.arena)(Rules()).methods
    for kind, spelled in config.axes().items():
        for text in spelled:
            methods.compose(kind, text)
