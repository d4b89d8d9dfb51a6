"""Class names and file names of strangers in the galleries: shown as they are, and never markup."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch

from countermove.game.cell import Setting
from countermove.report.inert import why_not_inert
from countermove.unlearnable.dataset import Pictures
from countermove.unlearnable.panels import _gallery, _spectrum

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def test_names_of_classes_and_files_are_escaped() -> None:
    pictures = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    train = Pictures(
        pictures=pictures,
        labels=torch.tensor([0, 1]),
        ids=(f"train/{HOSTILE}.png", f"train/b{HOSTILE}.png"),
        classes=(HOSTILE, f"a{HOSTILE}"),
    )
    results = SimpleNamespace(config=SimpleNamespace(countermoves=()), axis=lambda _: ("one",))
    row = SimpleNamespace(setting=Setting("unlearnable", "one", HOSTILE, "none", "m", 0))
    shown = _gallery(cast(Any, None), cast(Any, results), cast(Any, row), train, torch.arange(2), pictures + 1)
    assert why_not_inert(shown.html) == ""
    assert shown.html.count("&lt;script&gt;") >= 8
    assert "<script" not in shown.html
    assert "onerror=alert(1)>" not in shown.html


def test_a_name_of_a_move_is_escaped_in_its_spectrum() -> None:
    drawn = _spectrum(HOSTILE, torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5)
    assert why_not_inert(drawn) == ""
    assert drawn.count("&lt;script&gt;") == 2
