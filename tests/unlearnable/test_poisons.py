"""What each poison does, beyond what all must keep; and every way in which a published poison can be wrong."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons.linear_separable import corners

TINY = "batch_size=8, batches=4, rounds=4, surrogate='small-cnn(width=0.1)'"


def made(spelled: str) -> Any:
    return METHODS.compose("move", spelled).method


def noise_of(spelled: str, batch: Batch, seed: int = 0) -> Tensor:
    return made(spelled)(batch, context=Context(seed=seed)).pictures - batch.pictures


@pytest.fixture
def middle(pictures: Batch) -> Batch:
    """The made-up labels and ids on middle gray, where no noise is clamped."""
    return pictures.with_pictures(torch.full_like(pictures.pictures, 0.5))


def test_random_noise_fills_its_range_evenly(middle: Batch) -> None:
    noise = noise_of("random", middle) * 255
    assert float(noise.abs().max()) == pytest.approx(8, abs=0.1)
    assert float(noise.mean()) == pytest.approx(0, abs=0.2)
    assert float(noise.std()) == pytest.approx(16 / 12**0.5, rel=0.05)
    assert torch.unique(noise[:, 0, 0, 0]).numel() == len(middle)


@pytest.mark.parametrize("spelled", ["random(form=class)", "regions", "regions(regions=9)"])
def test_class_wise_noise_is_one_for_all_pictures_of_a_class(spelled: str, middle: Batch) -> None:
    noise = noise_of(spelled, middle)
    kinds = []
    for label in range(3):
        own = noise[middle.labels == label]
        assert torch.equal(own, own[:1].expand_as(own))
        kinds.append(own[0])
    assert not torch.equal(kinds[0], kinds[1])
    assert not torch.equal(kinds[1], kinds[2])


@pytest.mark.parametrize("grid", [1, 3, 4])
def test_regions_shift_a_grid_of_blocks_by_the_radius(grid: int, middle: Batch) -> None:
    noise = noise_of(f"regions(regions={grid**2})", middle)
    assert torch.allclose(noise.abs(), torch.tensor(8 / 255), atol=1e-6)
    edges = [round(i) for i in np.searchsorted(np.arange(16) * grid // 16, np.arange(grid + 1))]
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            block = noise[:, :, top:bottom, left:right].flatten(2)
            assert torch.equal(block, block[..., :1].expand_as(block))


def test_regions_refuse_what_is_no_grid(middle: Batch) -> None:
    with pytest.raises(ConfigError, match="square number"):
        made("regions(regions=8)")
    with pytest.raises(DataError, match="do not fit a picture of 16 x 16"):
        noise_of("regions(regions=400)", middle)


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_lsp_is_a_patchwork_at_the_whole_radius(patch: int, middle: Batch) -> None:
    noise = noise_of(f"linear-separable(eps=0.652, patch_size={patch})", middle)
    lengths = torch.linalg.vector_norm(noise.flatten(1), dim=1)
    assert torch.allclose(lengths, torch.tensor(0.652), atol=1e-4)
    patches = noise.unfold(2, patch, patch).unfold(3, patch, patch).flatten(4)
    assert torch.allclose(patches, patches[..., :1].expand_as(patches), atol=1e-6)


def test_a_linear_model_tells_the_classes_from_lsp_alone(middle: Batch) -> None:
    noise = noise_of("linear-separable(eps=0.652, patch_size=4)", middle).flatten(1)
    train, test = noise[:12], noise[12:]
    targets = torch.nn.functional.one_hot(middle.labels[:12], 3).float()
    weights = torch.linalg.lstsq(train, targets, driver="gelsd").solution
    assert ((test @ weights).argmax(1) == middle.labels[12:]).all()
    same_class = noise[middle.labels == 0]
    assert not torch.equal(same_class[0], same_class[1])


def test_lsp_classes_have_different_corners_of_a_cube() -> None:
    signs = corners(10, 48, 3)
    assert torch.equal(signs.abs(), torch.ones(10, 48))
    assert len({tuple(row.tolist()) for row in signs}) == 10
    assert len({tuple(row.tolist()) for row in corners(8, 3, 0)}) == 8


def test_lsp_refuses_more_classes_than_its_colours_can_tell() -> None:
    with pytest.raises(DataError, match="3 patch colours cannot tell 9 classes apart"):
        corners(9, 3, 0)


def test_lsp_refuses_patches_that_do_not_divide_the_side(middle: Batch) -> None:
    with pytest.raises(DataError, match="patches of 5 pixels do not divide a picture of 16 x 16"):
        noise_of("linear-separable(patch_size=5)", middle)


@pytest.mark.parametrize("form", ["sample", "class"])
def test_error_minimising_noise_teaches_labels_where_pictures_show_none(form: str, middle: Batch) -> None:
    nearly_equal = middle.with_pictures(0.48 + 0.04 * torch.rand(24, 3, 16, 16, generator=generator(9)))
    settings = f"batch_size=8, batches=6, rounds=2, surrogate='small-cnn(width=0.25)', form={form}, share=1.0, steps=5"
    errors = []
    for eps in (16 / 255, 0.0):  # the same game without its noise
        context = Context(seed=0)
        made(f"error-minimizing({settings}, eps={eps}, augment=false)")(nearly_equal, context=context)
        facts = context.meter.facts
        errors.append(facts["surrogate_error"])
        assert facts["rounds"] <= 2
        assert facts["stopped_early"] == (facts["surrogate_error"] <= (0.01 if form == "sample" else 0.1))
        assert context.meter.samples >= facts["rounds"] * 6 * 8
    assert errors[0] <= 0.1
    assert errors[1] > 0.4


def test_error_minimising_noise_stops_at_its_error_or_at_its_rounds(middle: Batch) -> None:
    def rounds(**stop: float | str) -> int:
        context = Context(seed=0)
        settings = ", ".join(f"{key}={value}" for key, value in {"steps": 1, "form": "class", **stop}.items())
        made(f"error-minimizing({TINY}, share=1.0, {settings})")(middle, context=context)
        return context.meter.facts["rounds"]

    assert rounds(stop_error=0.99) == 1
    assert rounds(stop_error=1e-9, eps=0) == 4
    with pytest.raises(ConfigError, match=r"stop_error = 1\.0 is refused"):
        rounds(stop_error=1.0)


def test_class_wise_error_minimising_noise_is_one_for_all_of_a_class(middle: Batch, pictures: Batch) -> None:
    # The noise is found on the pictures; on pictures away from the ends of the range it shows unclamped.
    soft = pictures.with_pictures(pictures.pictures * 0.5 + 0.25)
    noise = noise_of(f"error-minimizing({TINY}, form=class)", soft)
    for label in range(3):
        own = noise[soft.labels == label]
        assert torch.allclose(own, own[:1].expand_as(own), atol=1e-6)
        assert own.abs().max() > 0


@pytest.mark.parametrize("form", ["sample", "class"])
def test_error_maximising_noise_raises_the_surrogates_loss(form: str, pictures: Batch) -> None:
    from countermove.learning.loop import train
    from countermove.learning.recipe import Recipe
    from countermove.learning.scoring import Examples
    from countermove.nets.registry import build_network

    network = build_network("small-cnn(width=0.25)", 3, 16, generator(0))
    examples = Examples(pictures=to_uint8(pictures.pictures), labels=pictures.labels)
    recipe = Recipe(epochs=5, batch_size=8, lr=0.05, crop=0)
    train(network, examples, examples, recipe=recipe, seed=0, classes=3)
    network.eval()
    poison = made(f"error-maximizing(form={form}, eps=24/255, steps=12)")
    moved = poison(pictures, context=Context(seed=0, networks=lambda _: [network])).pictures
    flipped = (pictures.pictures * 2 - moved).clamp(0, 1)  # the same noise the other way round
    with torch.no_grad():
        loss = [
            float(torch.nn.functional.cross_entropy(network(x), pictures.labels))
            for x in (flipped, pictures.pictures, moved)
        ]
    assert loss[0] < loss[1] < loss[2]
    assert loss[2] > 1.5 * loss[1]


def test_error_maximising_noise_says_what_it_lacks(pictures: Batch) -> None:
    with pytest.raises(ConfigError, match="needs a trained surrogate: name --data and --model"):
        made("error-maximizing")(pictures, context=Context(seed=0))


@pytest.mark.parametrize("name", ["error-minimizing", "error-maximizing"])
def test_a_surrogate_that_cannot_be_built_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigError, match="no network is called 'resnet-81'; did you mean 'resnet-18'"):
        made(f"{name}(surrogate=resnet-81)")
    with pytest.raises(ConfigError, match="no setting 'wide'"):
        made(f'{name}(surrogate="small-cnn(wide=1)")')
