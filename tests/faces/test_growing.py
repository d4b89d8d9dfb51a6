"""A gallery that grows with what it names: against refitting on the grown gallery, world by world."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError
from countermove.faces.arena import Faces
from countermove.faces.naming import Views, grown, nearest
from countermove.game.arena import Rules
from countermove.pixels.randomness import generator


def views(seed: int, people: int = 5) -> Views:
    """Features around a center a person; the first person's cloaked photos lie at the second's."""
    source = generator(seed, "growing")
    centers = F.normalize(torch.randn(people, 6, generator=source))
    owner, tested = torch.arange(people).repeat(4), torch.arange(people).repeat(6)

    def around(rows: Tensor, spread: float) -> Tensor:
        return F.normalize(centers[rows] + spread * torch.randn(len(rows), 6, generator=source))

    return Views(
        clean=around(owner, 0.3),
        moved=around((owner + 1) % people, 0.3),
        owner=owner,
        tests=around(tested, 0.45),
        tested=tested,
    )


def refitted(given: Views, mover: int, threshold: float, rounds: int) -> tuple[list[int], list[float]]:
    """Grow one world's gallery by hand: photos join under the name they have; the others are compared anew."""
    gallery = [(row, int(name)) for row, name in zip(given.world(mover), given.owner, strict=True)]
    names: list[int] = []
    sure: list[float] = []
    for photo in given.tests:
        best = max(((float(photo @ row), -i) for i, (row, _) in enumerate(gallery)))
        names.append(gallery[-best[1]][1])
        sure.append(best[0])
    for _ in range(rounds):
        joined = [t for t in range(len(names)) if sure[t] >= threshold]
        before = (list(names), list(sure))
        for t in range(len(names)):
            if t in joined or not joined:
                continue
            similarity, other = max((float(given.tests[t] @ given.tests[a]), -a) for a in joined)
            if similarity > before[1][t]:
                names[t], sure[t] = before[0][-other], similarity
        if (names, sure) == before:
            break
    return names, sure


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rounds", [1, 2, 10])
def test_names_are_those_of_a_gallery_grown_by_hand(seed: int, rounds: int) -> None:
    given = views(seed)
    found = grown(nearest(given), given, threshold=0.85, rounds=rounds)
    for mover in range(-1, given.movers):
        names, sure = refitted(given, mover, 0.85, rounds)
        told = (found.clean, found.sure) if mover < 0 else (found.worlds[:, mover], found.similarity[:, mover])
        assert told[0].tolist() == names
        torch.testing.assert_close(told[1], torch.tensor(sure), atol=1e-5, rtol=0)


def test_growing_changes_something() -> None:
    assert any(
        not torch.equal(grown(nearest(v), v, threshold=0.85, rounds=10).clean, nearest(v).clean)
        for v in map(views, range(6))
    )


def test_nobody_joins_above_the_highest_similarity() -> None:
    given = views(0)
    assert torch.equal(grown(nearest(given), given, threshold=1.1, rounds=10).worlds, nearest(given).worlds)


@pytest.mark.parametrize("reply", ["adaptive+top-2+growing", "adaptive+growing+confidence", "adaptive+growing+top-2"])
def test_a_mixture_has_no_one_gallery_to_grow(reply: str) -> None:
    with pytest.raises(ConfigError, match="grow"):
        Faces(Rules()).plan(reply)


def test_only_neighbours_have_a_gallery_that_grows() -> None:
    axes = {"data": ["planted-faces"], "move": ["none"], "countermove": ["growing"], "model": ["nearest", "linear"]}
    with pytest.raises(ConfigError, match="nearest neighbours"):
        Faces(Rules()).check(axes)
    Faces(Rules()).check({**axes, "model": ["nearest"]})
