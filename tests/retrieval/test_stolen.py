"""A network that was trained on an engine's answers ranks as the engine does, and queries made on it work there."""

from __future__ import annotations

import pytest
import torch
from tests.retrieval.made_scenes import scenes, taken, trained
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.rounding import to_float
from countermove.retrieval.backbone import describe, read_backbone
from countermove.retrieval.backbones.stolen import Stolen
from countermove.retrieval.queries.pire_final import PireFinal
from countermove.retrieval.query import QueryContext, change

QUICK = Stolen(epochs=30, network="small-cnn(width=0.25)")


def answers() -> Tensor:
    """Return what the trained engine finds for every public picture, rows of the collection."""
    scores = describe(trained(), taken(scenes().public)) @ describe(trained(), taken(scenes().indexed)).T
    return scenes().indexed[scores.topk(10).indices]


def agreement(network: torch.nn.Module) -> float:
    """Return the mean correlation of the ranks that the engine and the network give what is indexed."""
    ranks = []
    for one in (trained(), network):
        scores = describe(one, taken(scenes().queries)) @ describe(one, taken(scenes().indexed)).T
        rank = scores.argsort(1).argsort(1).float()
        ranks.append(torch.nn.functional.normalize(rank - rank.mean(1, keepdim=True)))
    return float((ranks[0] * ranks[1]).sum(1).mean())


def test_it_ranks_more_like_the_engine_than_an_untrained_network_and_queries_carry_over() -> None:
    network, samples = QUICK.steal(scenes(), scenes().public, answers(), seed=0)
    blank = QUICK.blank(scenes(), seed=0).eval()
    assert samples == 30 * 80 * 4
    assert agreement(network) > max(0.7, agreement(blank) + 0.2)
    queries, ids = taken(scenes().queries), [f"q{k}" for k in range(8)]
    own, likeness = describe(trained(), queries), []
    for one in (network, blank):
        context = QueryContext(networks=(one,), public=taken(scenes().public))
        moved = change(PireFinal(steps=20, enough=-9), queries, ids, context=context)
        assert to_float(torch.stack(moved)).isfinite().all()
        likeness.append(float((describe(trained(), moved) * own).sum(1).mean()))
    assert likeness[0] < likeness[1]


def test_the_same_answers_give_the_same_network_and_bad_ones_are_refused() -> None:
    few = Stolen(epochs=1, network="small-cnn(width=0.25)")
    first, again = (few.steal(scenes(), scenes().public, answers(), seed=0)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    with pytest.raises(DataError, match="teach nothing"):
        few.steal(scenes(), scenes().public[:1], answers()[:1], seed=0)
    with pytest.raises(ConfigError, match="lists that an engine returns"):
        read_backbone("stolen", "x")[1].fit(scenes(), seed=0, device="cpu", checkpoint=None)
    for bad in ("stolen(length=1)", "stolen(network=small-cmm)", "stolen(epochs=0)"):
        with pytest.raises(ConfigError, match=r"stolen|small-cnn"):
            read_backbone(bad, "x")
