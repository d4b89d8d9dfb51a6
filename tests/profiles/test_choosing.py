"""Choosing additions against reading every profile anew."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import DataError
from countermove.pixels.randomness import generator
from countermove.profiles import choosing
from countermove.profiles.choosing import greedy, least_similar
from countermove.profiles.profiler import BagNetwork
from countermove.profiles.profilers.att_mil import AttMil
from countermove.profiles.profilers.deep_sets import DeepSets
from countermove.profiles.profilers.gru import Gru
from countermove.profiles.profilers.majority_vote import MajorityVote
from countermove.profiles.profilers.set_transformer import SetTransformer

DIM, CLASSES = 5, 3
PROFILERS = {
    "majority-vote": MajorityVote(hidden=4),
    "deep-sets": DeepSets(width=8, layers=2),
    "set-transformer": SetTransformer(width=8, heads=2, inducing=3),
    "att-mil": AttMil(width=7, hidden=5),
    "gru": Gru(width=6),
}


def made(name: str, seed: int = 0) -> BagNetwork:
    """Return a network of long floats whose answers differ much between items."""
    network = PROFILERS[name].network(DIM, CLASSES, generator=generator(seed, "weights")).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)
    return network


def items(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, DIM, generator=generator(seed, "items"), dtype=torch.float64)


def loss(network: BagNetwork, profile: Tensor, label: int) -> float:
    with torch.no_grad():
        logits = network.eval()(profile[None], torch.ones(1, len(profile), dtype=torch.bool))
    return float(F.cross_entropy(logits, torch.tensor([label])))


def brute_force(network: BagNetwork, profile: Tensor, pool: Tensor, count: int, label: int, among: list[int]):
    """Return the candidates of a greedy choice, reading the whole profile for each of them in each round."""
    chosen: list[int] = []
    for _ in range(count):
        left = [row for row in among if row not in chosen]
        chosen.append(max(left, key=lambda row: loss(network, torch.cat([profile, pool[[*chosen, row]]]), label)))
    return chosen


@pytest.mark.parametrize("name", PROFILERS)
@pytest.mark.parametrize("label", range(CLASSES))
def test_each_choice_is_the_best_beside_those_before_it(name: str, label: int) -> None:
    network, profile, pool = made(name), items(4), items(30, seed=1)
    expected = brute_force(network, profile, pool, 5, label, list(range(30)))
    assert greedy(network, profile, pool, 5, label).tolist() == expected
    assert len(set(expected)) == 5


@pytest.mark.parametrize("name", PROFILERS)
def test_pieces_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, profile, pool = made(name), items(4), items(30, seed=1)
    whole = greedy(network, profile, pool, 4, 0)
    monkeypatch.setattr(choosing, "_AT_ONCE", 7)
    assert greedy(network, profile, pool, 4, 0).tolist() == whole.tolist()


@pytest.mark.parametrize("name", PROFILERS)
def test_only_what_is_allowed_is_chosen(name: str) -> None:
    network, profile, pool = made(name), items(4), items(20, seed=1)
    among = list(range(0, 20, 3))
    allowed = torch.zeros(20, dtype=torch.bool)
    allowed[among] = True
    assert greedy(network, profile, pool, 4, 1, allowed=allowed).tolist() == brute_force(
        network, profile, pool, 4, 1, among
    )


@pytest.mark.parametrize("name", ["set-transformer", "gru"])
def test_without_summaries_a_shortlist_is_read_anew(name: str) -> None:
    network, profile, pool = made(name), items(4), items(30, seed=1)
    alone = sorted(range(30), key=lambda row: -loss(network, torch.cat([profile, pool[[row]]]), 2))
    expected = brute_force(network, profile, pool, 4, 2, alone[:6])
    assert greedy(network, profile, pool, 4, 2, shortlist=6).tolist() == expected
    assert sorted(greedy(network, profile, pool, 4, 2, shortlist=1).tolist()) == sorted(alone[:4])


@pytest.mark.parametrize("name", ["deep-sets", "set-transformer", "att-mil"])
def test_a_certain_profiler_still_tells_candidates_apart(name: str) -> None:
    """In short floats every candidate's loss is exactly 0."""
    network, profile, pool = made(name).eval(), items(4), items(30, seed=1)
    last = network.rho[-1] if name == "deep-sets" else network.head  # pyright: ignore
    with torch.no_grad():
        last.bias.copy_(torch.tensor([40.0, 0.0, 0.0]))  # pyright: ignore
    assert loss(network.float(), torch.cat([profile, pool[:1]]).float(), 0) == 0
    long = made(name)
    last = long.rho[-1] if name == "deep-sets" else long.head  # pyright: ignore
    with torch.no_grad():
        last.bias.copy_(torch.tensor([40.0, 0.0, 0.0]))  # pyright: ignore
        logits = [long.eval()(torch.cat([profile, pool[[row]]])[None], torch.ones(1, 5).bool())[0] for row in range(30)]
    odds = torch.stack([torch.logsumexp(each[1:], 0) - each[0] for each in logits])
    found = greedy(network, profile.float(), pool.float(), 1, 0)
    assert found.tolist() == [int(odds.argmax())]


def test_the_same_item_twice_among_candidates_is_two_candidates() -> None:
    network, profile = made("deep-sets"), items(4)
    pool = items(1, seed=1).repeat(3, 1)
    assert sorted(greedy(network, profile, pool, 3, 0).tolist()) == [0, 1, 2]


def test_a_network_in_training_is_read_as_if_it_were_not_and_stays_so() -> None:
    network, profile, pool = made("set-transformer"), items(4), items(20, seed=1)
    expected = greedy(network.eval(), profile, pool, 3, 0)
    assert greedy(network.train(), profile, pool, 3, 0).tolist() == expected.tolist()
    assert all(module.training for module in network.modules())
    assert all(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("name", ["deep-sets", "set-transformer"])
def test_nothing_and_too_many(name: str) -> None:
    network, profile, pool = made(name), items(4), items(6, seed=1)
    assert greedy(network, profile, pool, 0, 0).tolist() == []
    assert sorted(greedy(network, profile, pool, 6, 0).tolist()) == list(range(6))
    with pytest.raises(DataError, match="7 items are to be chosen from 6 candidates"):
        greedy(network, profile, pool, 7, 0)
    with pytest.raises(DataError, match="2 items are to be chosen from 1 candidates"):
        greedy(network, profile, pool, 2, 0, allowed=torch.arange(6) == 3)


def mean_direction(profile: Tensor) -> Tensor:
    return F.normalize(profile).mean(0)


@pytest.mark.parametrize("at_once", [8192, 4])
def test_the_least_similar_have_the_lowest_mean_cosine(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_AT_ONCE", at_once)
    profiles, pool = [items(n, seed=n) for n in (1, 3, 6)], items(25, seed=9) * torch.linspace(0.1, 9, 25)[:, None]
    found = least_similar(torch.stack([mean_direction(profile) for profile in profiles]), pool, 4)
    for profile, rows in zip(profiles, found, strict=True):
        cosines = [float(F.cosine_similarity(profile, row[None]).mean()) for row in pool]
        assert rows.tolist() == sorted(range(25), key=lambda row: cosines[row])[:4]


def test_half_precision_candidates_are_compared_in_full() -> None:
    profile, pool = items(3).float(), items(500, seed=1).half()
    found = least_similar(mean_direction(profile)[None], pool, 10)
    assert found.tolist() == least_similar(mean_direction(profile)[None], pool.float(), 10).tolist()


def test_a_candidate_without_features_is_like_nothing() -> None:
    pool = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    assert least_similar(torch.tensor([[1.0, 0.0]]), pool, 3).tolist() == [[2, 1, 0]]


def test_fewer_candidates_than_asked_are_refused() -> None:
    with pytest.raises(DataError, match="4 items are to be chosen from 3"):
        least_similar(torch.ones(1, 2), torch.ones(3, 2), 4)
