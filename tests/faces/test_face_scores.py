"""What cells count: others who do not move, chance, photos that a cloak has changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from countermove.errors import ConfigError, DataError
from countermove.faces.artifacts import chosen_public, unlike
from countermove.faces.gallery import Faces
from countermove.faces.methods import METHODS
from countermove.faces.naming import Named
from countermove.faces.play import _Scores
from countermove.game.dates import check_date


@pytest.fixture(scope="module")
def faces() -> Faces:
    return METHODS.compose("data", "planted-faces(movers=4, people=8, photos=6, side=16)").method()


def named(faces: Faces, together: torch.Tensor | None) -> Named:
    """Who cloaks in a world is never named, everybody else always."""
    tested = faces.number[faces.person[faces.tested]]
    cloaks = torch.eye(4, dtype=torch.bool) if together is None else together
    wrong = (tested + 1) % 4
    worlds = torch.where(cloaks[tested], wrong[:, None], tested[:, None])
    return Named(
        worlds=worlds,
        similarity=torch.ones(worlds.shape),
        clean=tested,
        sure=torch.ones(len(tested)),
        together=together,
    )


@pytest.mark.parametrize("groups", [None, [[0, 1], [2, 3]], [[0, 1, 2], [3]]])
def test_who_moves_in_the_same_world_is_nobody_elses_other(faces: Faces, groups: list[list[int]] | None) -> None:
    together = None
    if groups is not None:
        together = torch.zeros(4, 4, dtype=torch.bool)
        for group in groups:
            together[torch.tensor(group)[:, None], torch.tensor(group)] = True
    scores = _Scores.of(named(faces, together), faces)
    assert scores.others == 1
    assert scores.moved.tolist() == [0] * 4
    assert scores.clean.tolist() == [1] * 4


def test_a_photo_with_one_other_value_is_changed() -> None:
    clean = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    moved = clean.clone()
    moved[1, 2, 3, 3] = 1
    assert unlike(moved, clean).tolist() == [False, True, False]


def test_a_trainer_without_other_people_is_told_so(faces: Faces) -> None:
    alone = replace(faces, movers=torch.arange(8))
    with pytest.raises(DataError, match="besides the movers"):
        chosen_public(alone, 2)


@pytest.mark.parametrize("date", ["2021-13", "2021-02-30", "2021-00", "21", "2021-1", "2021-01-1", ""])
def test_a_day_that_never_was_is_no_date(date: str) -> None:
    with pytest.raises(ConfigError, match="is no date"):
        check_date(date)
