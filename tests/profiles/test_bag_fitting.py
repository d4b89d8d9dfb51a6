"""Training on profiles of unequal length, and reading them in pieces."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import DataError
from countermove.nets.parts import seeded
from countermove.pixels.randomness import generator
from countermove.profiles import fitting
from countermove.profiles.fitting import Fitted, fit_bags, read_bags
from countermove.profiles.profiler import BagNetwork, BagRecipe, Reader
from countermove.profiles.profilers.att_mil import WeightedItems
from countermove.profiles.profilers.deep_sets import MeanOfItems
from countermove.profiles.profilers.gru import ItemsInOrder
from countermove.profiles.profilers.layers import total
from countermove.profiles.profilers.majority_vote import Votes

DIM = 12
RECIPE = BagRecipe(epochs=15, batch=16, lr=1e-2)


def profiles(count: int, seed: int = 0, *, share: float = 0.5) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return features in no order, bags of 1 to 9 of them, and labels; half of a profile's items show which."""
    source = generator(seed, "profiles")
    lengths = torch.randint(1, 10, (count,), generator=source)
    labels = (torch.rand(count, generator=source) < share).long()
    features = torch.randn(int(lengths.sum()), DIM, generator=source)
    rows = torch.randperm(len(features), generator=source)
    bags = list(rows.split(lengths.tolist()))
    for bag, label in zip(bags, labels.tolist(), strict=True):
        features[bag[: (len(bag) + 1) // 2], label] += 4
    return features, bags, labels


def deep_sets(seed: int = 0) -> Reader:
    with seeded(generator(seed, "weights")):
        return Reader(MeanOfItems(DIM, 2, 16, 2))


def fit(reader: Reader, given: tuple[Tensor, list[Tensor], Tensor], **more: Any) -> Fitted:
    return fit_bags(reader, *given, **{"recipe": RECIPE, "seed": 0, "medium": "table", **more})


def weights(reader: Reader) -> Tensor:
    return torch.cat([weight.flatten() for weight in reader.state_dict().values()])


class _Recorder(BagNetwork):
    """Keeps what it was given."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.head = nn.Linear(1, classes)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        self.seen.append((features.detach().clone(), mask.clone()))
        return self.head(total(features, mask)[:, :1])


class _Colours(nn.Module):
    """Features of pictures: their mean colour, times a weight; remembers how many came at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.at_once: list[int] = []

    def forward(self, items: Tensor) -> Tensor:
        self.at_once.append(len(items))
        return items.mean((2, 3)) * self.weight


class _Fickle(MeanOfItems):
    """Draws dropout like any layer does."""

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return F.dropout(super().forward(features, mask), 0.3, self.training)


@pytest.mark.parametrize(
    "network",
    [Votes(DIM, 2, 0), MeanOfItems(DIM, 2, 16, 2), WeightedItems(DIM, 2, 16, 8, gated=False), ItemsInOrder(DIM, 2, 16)],
    ids=["votes", "deep-sets", "att-mil", "gru"],
)
def test_what_is_there_is_learned(network: BagNetwork) -> None:
    reader = Reader(network)
    fitted = fit(reader, profiles(200))
    source, bags, labels = profiles(200, seed=1)
    read, _ = read_bags(reader, source, bags, "table")
    assert float((read.argmax(1) == labels).float().mean()) > 0.9
    assert len(fitted.train_accuracy) == RECIPE.epochs
    assert fitted.train_accuracy[-1] > max(0.9, fitted.train_accuracy[0])


def test_a_training_is_a_loop_over_profiles() -> None:
    """One batch of everything a step, the mean over profiles one by one, and the cosine written out."""
    source, bags, labels = profiles(12)
    ours, slow = deep_sets(), deep_sets()
    recipe = BagRecipe(epochs=4, batch=12, lr=0.05, weight_decay=0.1, optimizer="sgd")
    fit(ours, (source, bags, labels), recipe=recipe, class_balanced=False)
    optimizer = torch.optim.SGD(slow.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * epoch / 4)) / 2
        optimizer.zero_grad()
        for bag, label in zip(bags, labels, strict=True):
            mask = torch.ones(1, len(bag), dtype=torch.bool)
            (F.cross_entropy(slow(source[bag][None], mask), label[None]) / 12).backward()
        optimizer.step()
    torch.testing.assert_close(weights(ours), weights(slow), atol=1e-5, rtol=1e-4)


def test_an_epoch_sees_every_profile_once_and_pads_little() -> None:
    source = torch.arange(2000.0)[:, None]
    lengths = torch.randint(1, 60, (64,), generator=generator(0, "lengths"))
    bags = list(torch.arange(int(lengths.sum())).split(lengths.tolist()))
    network = _Recorder()
    fit(Reader(network), (source, bags, torch.arange(64) % 2), recipe=BagRecipe(epochs=2, batch=10, lr=1e-9))
    assert len(network.seen) == 2 * 7
    first, second = network.seen[:7], network.seen[7:]
    for epoch in (first, second):
        items = [features[row][mask[row], 0] for features, mask in epoch for row in range(len(mask))]
        found = sorted(tuple(each.tolist()) for each in items)
        assert found == sorted(tuple(source[bag, 0].tolist()) for bag in bags)
        assert all(9 <= len(mask) <= 10 for _, mask in epoch)
        there = sum(float(mask.sum()) for _, mask in epoch) / sum(mask.numel() for _, mask in epoch)
        assert there > 0.75  # in a random order it is about 0.55
    longest = [mask.shape[1] for _, mask in first]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))
    assert longest != [mask.shape[1] for _, mask in second]


def test_copies_are_items_with_their_owners_label() -> None:
    source, bags, labels = profiles(20)
    ours, by_hand = deep_sets(), deep_sets()
    copies = replace(RECIPE, copies=True, epochs=3)
    fitted = fit(ours, (source, bags, labels), recipe=copies)
    items = torch.cat(bags)
    its_label = torch.cat([label.repeat(len(bag)) for bag, label in zip(bags, labels, strict=True)])
    fit(by_hand, (source, list(items[:, None]), its_label), recipe=replace(copies, copies=False))
    assert torch.equal(weights(ours), weights(by_hand))
    assert fitted.samples == 3 * len(items)


def test_classes_weigh_the_same_unless_told_otherwise() -> None:
    """Where features say nothing, what is read is the classes' weight: one half, or how many there are."""
    _, bags, labels = profiles(200, share=0.1)
    source = torch.zeros(sum(len(bag) for bag in bags), DIM)
    read = {}
    for balanced in (True, False):
        reader = deep_sets()
        recipe = BagRecipe(epochs=30, batch=32, lr=1e-2, weight_decay=0)
        fit(reader, (source, bags, labels), class_balanced=balanced, recipe=recipe)
        read[balanced] = float(read_bags(reader, source, bags, "table")[0][0, 1])
    assert read[True] == pytest.approx(0.5, abs=0.06)
    assert read[False] == pytest.approx(float(labels.float().mean()), abs=0.04)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state_alone() -> None:
    given = profiles(40)
    made = []
    for seed, noise in ((0, 1), (0, 2), (1, 3)):
        with seeded(generator(0, "weights")):
            reader = Reader(_Fickle(DIM, 2, 16, 2))
        torch.rand(noise)
        before = torch.get_rng_state()
        fit(reader, given, seed=seed)
        assert torch.equal(before, torch.get_rng_state())
        made.append(weights(reader))
        assert not reader.training
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_body_learns_too_from_items_as_they_are_stored() -> None:
    items = torch.randint(0, 256, (60, 3, 4, 4), generator=generator(0, "pictures"), dtype=torch.uint8)
    bags = list(torch.arange(60).split([1, 2, 3, 4] * 6))
    body = _Colours()
    reader = Reader(MeanOfItems(3, 2, 8, 1), body)
    fitted = fit(reader, (items, bags, torch.arange(24) % 2), recipe=replace(RECIPE, epochs=2), medium="picture")
    assert fitted.samples == 2 * 60 == sum(body.at_once)
    assert not torch.equal(body.weight, torch.ones(3))


def test_profiles_are_read_one_by_one_or_in_any_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    source, bags, _ = profiles(30)
    network = WeightedItems(DIM, 2, 16, 8, gated=True).requires_grad_(False)
    reader = Reader(network)
    for limit in (8192, 20, 1):
        monkeypatch.setattr(fitting, "ITEMS_AT_ONCE", limit)
        read, attention = read_bags(reader, source, bags, "table")
        assert attention is not None
        for bag, found, looks in zip(bags, read, attention, strict=True):
            features, mask = source[bag][None], torch.ones(1, len(bag), dtype=torch.bool)
            torch.testing.assert_close(found, network.probabilities(features, mask)[0], atol=1e-6, rtol=0)
            torch.testing.assert_close(looks, network.attention(features, mask)[0], atol=1e-6, rtol=0)


def test_reading_pads_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "ITEMS_AT_ONCE", 20)
    source, bags, _ = profiles(30)
    network = _Recorder()
    read_bags(Reader(network), source, [*bags, torch.arange(50)], "table")
    *others, longest = sorted(mask.numel() for _, mask in network.seen)
    assert longest == 50
    assert 10 < max(others) <= 20
    assert sum(len(mask) for _, mask in network.seen) == 31


def test_a_long_profile_goes_through_a_body_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "AT_ONCE", 7)
    items = torch.randint(0, 256, (40, 3, 4, 4), generator=generator(0, "pictures"), dtype=torch.uint8)
    body = _Colours()
    reader = Reader(MeanOfItems(3, 2, 8, 1), body).train()
    bags = [torch.arange(30), torch.arange(30, 40)]
    read, attention = read_bags(reader, items, bags, "picture")
    assert max(body.at_once) == 7
    assert attention is None
    whole = reader(items[None, :30].float() / 255, torch.ones(1, 30, dtype=torch.bool)).softmax(1)[0]
    torch.testing.assert_close(read[0], whole.detach())
    assert reader.training
    assert all(weight.requires_grad for weight in reader.parameters())


def test_a_vote_is_read_as_shares_of_items() -> None:
    source, bags, labels = profiles(50)
    reader = Reader(Votes(DIM, 2, 0))
    fit(reader, (source, bags, labels), recipe=replace(RECIPE, copies=True))
    read, _ = read_bags(reader, source, bags, "table")
    for bag, found in zip(bags, read, strict=True):
        votes = reader.bag.item(source[bag]).argmax(1)  # pyright: ignore
        assert float(found[1]) == pytest.approx(float((votes == 1).float().mean()), abs=1e-3)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s, b, y: (s, [], y[:0]), "needs profiles"),
        (lambda s, b, y: (s, [*b[1:], b[0][:0]], y), "at least one item"),
        (lambda s, b, y: (s, b, y[1:]), "labels"),
        (lambda s, b, y: (torch.where(torch.arange(DIM) == 3, torch.nan, s), b, y), "not finite"),
    ],
    ids=["no profiles", "an empty profile", "a label is missing", "a feature is NaN"],
)
def test_what_no_profiler_can_be_made_of_is_refused(spoil: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit(deep_sets(), spoil(*profiles(8)))


def test_a_training_that_diverges_says_so() -> None:
    source, bags, labels = profiles(30)
    with pytest.raises(DataError, match="diverged"):
        fit(deep_sets(), (source * 1e4, bags, labels), recipe=BagRecipe(lr=1e6, optimizer="sgd", epochs=30))
