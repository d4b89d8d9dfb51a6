"""Robust training: whose pictures are added, with which labels and which poison, and what it costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.countermeasures.known_poisons import OwnSurrogates, RobustTraining
from countermove.unlearnable.data.cifar import CLASSES, Cifar10Mini
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context, Surrogate

RANDOM = "random(form=class)"
KNOWN = RobustTraining(known=RANDOM, data="cifar10-mini", skip=100, take=50)


def plan_of(classes: tuple[str, ...] = CLASSES, n: int = 30) -> Plan:
    pictures = torch.randint(0, 256, (n, 3, 32, 32), generator=generator(0), dtype=torch.uint8)
    received = Examples(pictures=pictures, labels=torch.arange(n) % len(classes))
    return Plan(received=received, moved=torch.arange(n) % 2 == 0, recipe=Recipe(), classes=classes)


def reply(plan: Plan, *, seed: int = 0, with_reply: RobustTraining = KNOWN) -> Plan:
    return with_reply(plan, context=ReplyContext(seed=seed))


def test_own_pictures_come_behind_the_received_ones_clean_and_poisoned() -> None:
    plan, data = plan_of(), Cifar10Mini()()
    after = reply(plan)
    assert len(after.received) == len(after.moved) == 30 + 50 + 50
    assert torch.equal(after.received.pictures[:30], plan.received.pictures)
    clean, poisoned = after.received.pictures[30:80], after.received.pictures[80:]
    assert torch.equal(clean, data.train.pictures[100:150])
    for labels in (after.received.labels[30:80], after.received.labels[80:]):
        assert torch.equal(labels, data.train.labels[100:150])
    change = poisoned.int() - clean.int()
    assert int(change.abs().max()) == 8
    assert not after.moved[30:].any()
    assert after.clean_examples == 50
    assert after.samples == 0, "random noise needs no network"


def test_labels_follow_the_names_of_the_classes() -> None:
    names = ("truck", "frog", "ufo")
    after, data = reply(plan_of(names)), Cifar10Mini()()
    theirs = [CLASSES[label] for label in data.train.labels[100:150].tolist() if CLASSES[label] in names]
    assert [names[label] for label in after.received.labels[30:].tolist()] == theirs * 2
    assert after.clean_examples == len(theirs)


def test_the_movers_random_draw_is_not_known() -> None:
    """With the same poison and the cell's own seed, the trainer would hold the mover's very noise."""
    after = reply(plan_of())
    own = Cifar10Mini()().train.batch(torch.arange(100, 150))
    movers = METHODS.compose("move", RANDOM).method(own, context=Context(seed=0)).pictures

    def noise(pictures: Tensor) -> Tensor:
        return (to_float(pictures) - own.pictures).flatten()

    together = torch.corrcoef(torch.stack([noise(after.received.pictures[80:]), noise(to_uint8(movers))]))[0, 1]
    assert abs(float(together)) < 0.1


def test_the_same_seed_gives_the_same_pictures_and_nobody_looks_at_who_moved_what() -> None:
    plan = plan_of()
    turned = Plan(received=plan.received, moved=~plan.moved, recipe=plan.recipe, classes=plan.classes)
    before = torch.get_rng_state()
    first, again, other = reply(plan), reply(turned), reply(plan, seed=1)
    assert torch.equal(first.received.pictures, again.received.pictures)
    assert not torch.equal(first.received.pictures, other.received.pictures)
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_are_trained_on_the_own_pictures_once() -> None:
    own = Cifar10Mini()().train.batch(torch.arange(40))
    trainer = OwnSurrogates(own, 0, "cpu")
    asked = Surrogate(model="small-cnn(width=0.1)", recipe=Recipe(epochs=4), checkpoints=2)
    stages = trainer(asked)
    assert trainer.samples == 4 * 40
    assert trainer(asked)[1] is stages[1]
    assert trainer.samples == 4 * 40
    weights = [next(stage.parameters()) for stage in stages]
    assert len(stages) == 2
    assert not torch.equal(weights[0], weights[1])


def test_a_poison_that_needs_a_network_is_made_with_the_trainers_own() -> None:
    surrogate = "surrogate='small-cnn(width=0.1)', surrogate_epochs=1"
    known = f"error-maximizing({surrogate}, steps=1, batch_size=10)"
    after = reply(plan_of(), with_reply=RobustTraining(known=known, data="cifar10-mini", skip=0, take=20))
    assert len(after.received) == 70
    assert after.samples >= 20 + 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"known": "none"}, "refused as a part"),
        ({"known": "random+random"}, "refused as a part"),
        ({"known": "no-such-poison"}, "unknown move"),
        ({"data": "cifar10-mini+moved(fraction=0.5)"}, "name one whole data set"),
        ({"take": 1}, "take = 1"),
    ],
)
def test_what_cannot_be_made_is_refused_beforehand(settings: dict[str, str | int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RobustTraining(**{"data": "cifar10-mini", **settings})  # type: ignore[arg-type]


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"fewer than 2 are of the classes cat food"):
        reply(plan_of(("cat food", "dog food")))
    plan = plan_of()
    small = Examples(pictures=plan.received.pictures[:, :, :16, :16], labels=plan.received.labels)
    with pytest.raises(DataError, match=r"\(16, 16\), those of cifar10-mini \(32, 32\)"):
        reply(Plan(received=small, moved=plan.moved, recipe=plan.recipe, classes=plan.classes))


def test_the_poison_and_the_data_enter_the_identity() -> None:
    other = RobustTraining(known=RANDOM, data="cifar10-mini(train_limit=200)", skip=100, take=50)
    assert KNOWN.fingerprint() == KNOWN.fingerprint()
    assert KNOWN.fingerprint() != other.fingerprint()
