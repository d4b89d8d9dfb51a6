"""Adversarial training and the learned policies: that their settings mean what the sheets say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from countermove.errors import ConfigError
from countermove.learning.adversary import Adversary
from countermove.learning.augment import ModelStep
from countermove.learning.operations import OPERATIONS
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.nets.small import SmallCnn
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.countermeasures.adversarial_training import AdversarialTraining
from countermove.unlearnable.countermeasures.fast_autoaugment import FastAutoAugment, PolicyStep, _sub_policies


def asked(method: AdversarialTraining) -> ModelStep:
    received = Examples(pictures=torch.zeros(2, 3, 16, 16, dtype=torch.uint8), labels=torch.tensor([0, 1]))
    plan = Plan(received=received, moved=torch.ones(2, dtype=torch.bool), recipe=Recipe(epochs=1))
    (step,) = method(plan, context=ReplyContext(seed=0)).model_steps
    return step


@pytest.mark.parametrize(
    ("method", "adversary"),
    [
        (AdversarialTraining(), Adversary(norm="linf", eps=8 / 255, step=2 / 255, steps=10)),
        (AdversarialTraining(norm="l2"), Adversary(norm="l2", eps=0.5, step=0.125, steps=10)),
        (AdversarialTraining(norm="l2", eps=1.0, steps=3), Adversary(norm="l2", eps=1.0, step=0.25, steps=3)),
        (AdversarialTraining(variant="fast"), Adversary(norm="linf", eps=8 / 255, step=10 / 255, steps=1)),
        (AdversarialTraining(variant="fast", eps=0.1, step=0.1), Adversary(norm="linf", eps=0.1, step=0.1, steps=1)),
        (AdversarialTraining(eps=0.031, step=0.007), Adversary(norm="linf", eps=0.031, step=0.007, steps=10)),
    ],
)
def test_settings_reach_the_adversary(method: AdversarialTraining, adversary: Adversary) -> None:
    assert asked(method) == adversary


def test_every_step_costs_a_pass() -> None:
    assert asked(AdversarialTraining()).passes == 10
    assert asked(AdversarialTraining(variant="fast")).passes == 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("variant", ["pgd", "fast"])
def test_what_is_trained_on_has_a_higher_loss(variant: str, norm: str, pictures: Batch) -> None:
    network = SmallCnn(width=0.1)(3, 16, generator(2)).eval()
    step = asked(AdversarialTraining(variant=variant, norm=norm))  # pyright: ignore[reportArgumentType]
    x, labels = pictures.pictures, pictures.labels
    found, _ = step(network, x, labels, generator=generator(0), progress=0.0)
    with torch.no_grad():
        before, after = (F.cross_entropy(network(seen), labels) for seen in (x, found))
    assert after > before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": 8.0}, "write 8/255"),
        ({"eps": -0.1}, "eps = -0.1"),
        ({"step": 0.0}, "step = 0"),
        ({"step": float("nan")}, "step = nan"),
        ({"steps": 0}, "steps = 0"),
        ({"variant": "free"}, "variants are 'pgd' and 'fast'"),
        ({"norm": "l0"}, "norms 'linf' and 'l2'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdversarialTraining(**settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("policy", ["cifar10", "svhn", "imagenet"])
def test_a_policy_has_torchvisions_strengths(policy: str) -> None:
    """Read off torchvision's own table of magnitudes, which its policies index."""
    library = AutoAugment(AutoAugmentPolicy(policy))
    table = library._augmentation_space(10, (24, 40))
    operations, probabilities, strengths = _sub_policies(policy, 24, 40)
    for row, sub_policy in enumerate(library.policies):
        for column, (name, probability, level) in enumerate(sub_policy):
            assert list(OPERATIONS)[int(operations[row, column])] == name
            assert float(probabilities[row, column]) == pytest.approx(probability)
            if level is not None:
                assert float(strengths[row, column]) == pytest.approx(float(table[name][0][level]), abs=1e-4)


def test_a_batch_looks_as_if_torchvision_had_changed_it(pictures: Batch) -> None:
    """The same sub-policies with the same draws, one picture at a time, give the same pictures within three levels."""
    x = pictures.pictures
    found, _ = PolicyStep(policy="cifar10")(x, pictures.labels, generator=generator(4))
    library, source = AutoAugment(AutoAugmentPolicy.CIFAR10), generator(4)
    chosen = torch.randint(25, (len(x),), generator=source)
    coins = torch.rand(len(x), 2, generator=source)
    signs = torch.randint(2, (len(x), 2), generator=source)
    close, changed = 0, 0
    for i in range(len(x)):
        library.get_params = lambda _, i=i: (int(chosen[i]), coins[i], signs[i])  # pyright: ignore[reportAttributeAccessIssue]
        one = library(to_uint8(x[i]))
        close += int((found[i] * 255 - one).abs().median() <= 3)
        changed += int(not torch.equal(to_uint8(found[i]), to_uint8(x[i])))
    assert close == len(x)
    assert len(x) // 2 < changed < len(x)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        FastAutoAugment(policy="cifar")  # pyright: ignore[reportArgumentType]
