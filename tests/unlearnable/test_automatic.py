"""The automatic choice on made-up data with planted noise of known frequency."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.pixels import squeezes
from countermove.pixels.jpeg import jpeg
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.pixels.squeezes import squeeze_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.countermeasures.automatic import Automatic, mildest

CHOICES = ("none", "gray", "jpeg", "gray_jpeg")
QUICK = Automatic(model="small-cnn(width=0.2)", epochs=4)


def scenes(labels: Tensor) -> Tensor:
    """Return smooth pictures of 16 x 16, which tell a little of their label by how bright their two halves are."""
    n = len(labels)
    coarse = torch.rand(n, 3, 4, 4, generator=generator(0, "scene"))
    smooth = torch.nn.functional.interpolate(coarse, size=16, mode="bilinear")
    halves = torch.ones(n, 1, 16, 16)
    halves[:, :, :, 8:] = -1
    return 0.25 + 0.5 * smooth + 0.02 * halves * (2.0 * labels - 1)[:, None, None, None]


def colour_noise() -> Tensor:
    """Return large patches of equal luma, so that gray removes all and JPEG little of them: [2, 3, 16, 16]."""
    patches = torch.randint(0, 2, (2, 1, 2, 2), generator=generator(1)) * 2.0 - 1
    patches[1] = -patches[0]
    weight = torch.tensor([1.0, -0.299 / 0.587, 0.0]).view(1, 3, 1, 1)
    return (patches * weight * 20 / 255).repeat_interleave(8, 2).repeat_interleave(8, 3)


def fine_noise() -> Tensor:
    """Return gray noise of the highest frequencies, which gray leaves as it is and JPEG removes: [2, 3, 16, 16]."""
    stripes = ((torch.arange(16)[:, None] + torch.arange(16)) % 2) * 2.0 - 1
    columns = (torch.arange(16) % 2 * 2.0 - 1).expand(16, 16)
    return torch.stack([stripes, columns])[:, None].expand(2, 3, 16, 16) * 6 / 255


def plan_of(noise: Tensor | None, n: int = 400) -> Plan:
    labels = torch.arange(n) % 2
    pictures = scenes(labels) + (0 if noise is None else noise[labels])
    received = Examples(pictures=to_uint8(pictures), labels=labels)
    return Plan(received=received, moved=torch.ones(n, dtype=torch.bool), recipe=Recipe())


CASES = [
    (None, "none"),
    (colour_noise(), "gray"),
    (fine_noise(), "jpeg"),
    (colour_noise() + fine_noise(), "gray_jpeg"),
]


@pytest.mark.parametrize(("noise", "expected"), CASES, ids=[case[1] for case in CASES])
def test_the_choice_fits_what_was_planted(noise: Tensor | None, expected: str) -> None:
    plan, context = plan_of(noise), ReplyContext(seed=0)
    after = QUICK(plan, context=context)
    assert {name: context.facts[f"chose_{name}"] for name in CHOICES} == {n: float(n == expected) for n in CHOICES}
    assert all(0 <= context.facts[f"simple_{name}"] <= 1 for name in CHOICES)
    both = squeeze_uint8(squeeze_uint8(plan.received.pictures, squeezes.gray), lambda x: jpeg(x, quality=10))
    by_hand = {
        "none": plan.received.pictures,
        "gray": squeeze_uint8(plan.received.pictures, squeezes.gray),
        "jpeg": squeeze_uint8(plan.received.pictures, lambda x: jpeg(x, quality=10)),
        "gray_jpeg": both,
    }
    assert torch.equal(after.received.pictures, by_hand[expected])
    assert after.samples == 4 * 400 * (10 + 4)


def test_the_first_that_is_nearly_lowest_is_chosen() -> None:
    assert mildest({"none": 0.46, "gray": 0.43, "jpeg": 0.45, "gray_jpeg": 0.41}, 0.1) == "none"
    assert mildest({"none": 0.96, "gray": 0.48, "jpeg": 0.90, "gray_jpeg": 0.41}, 0.1) == "gray"
    assert mildest({"none": 0.96, "gray": 0.95, "jpeg": 0.45, "gray_jpeg": 0.41}, 0.1) == "jpeg"
    assert mildest({"none": 0.96, "gray": 0.75, "jpeg": 0.70, "gray_jpeg": 0.41}, 0.1) == "gray_jpeg"
    assert mildest({"none": 0.96, "gray": 0.96, "jpeg": 0.96, "gray_jpeg": 0.96}, 0.1) == "none"


def test_no_more_pictures_are_looked_at_than_asked() -> None:
    plan = plan_of(colour_noise())
    few = Automatic(pictures=100, epochs=1, model="small-cnn(width=0.1)")
    after = few(plan, context=ReplyContext(seed=0))
    assert after.samples == 4 * 100 * (10 + 1)
    assert len(after.received) == 400
