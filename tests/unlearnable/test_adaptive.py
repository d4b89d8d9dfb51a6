"""Poisons that expect to be squeezed: error-minimising noise made through gray and JPEG, and gray patchworks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError
from countermove.pixels.batch import Batch
from countermove.pixels.jpeg import jpeg, jpeg_differentiable
from countermove.pixels.randomness import generator
from countermove.pixels.squeezes import gray, gray_soft
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context
from countermove.unlearnable.views import Through, View, straight

TINY = "batch_size=8, batches=3, rounds=2, share=1.0, steps=3, surrogate='small-cnn(width=0.1)'"


def made(spelled: str) -> Any:
    return METHODS.compose("move", spelled).method


def noise_of(spelled: str, batch: Batch) -> Tensor:
    return made(spelled)(batch, context=Context(seed=0)).pictures - batch.pictures


@pytest.fixture
def soft(pictures: Batch) -> Batch:
    """The made-up pictures away from the ends of the range, where no noise is cut."""
    return pictures.with_pictures(pictures.pictures * 0.5 + 0.25)


@pytest.mark.parametrize("form", ["sample", "class"])
def test_noise_made_through_gray_is_gray(form: str, soft: Batch) -> None:
    through = noise_of(f"error-minimizing({TINY}, form={form}, through=gray)", soft)
    assert through.abs().max() > 0.5 / 255
    assert torch.allclose(through, through[:, :1].expand_as(through), atol=1e-6)
    coloured = noise_of(f"error-minimizing({TINY}, form={form})", soft)
    assert (coloured - coloured.mean(1, keepdim=True)).abs().max() > 0.5 / 255


def test_the_real_codec_with_the_gradient_of_the_identity(soft: Batch) -> None:
    pictures = soft.pictures.clone().requires_grad_()
    seen = straight(pictures, 30)
    assert torch.allclose(seen, jpeg(soft.pictures, 30), atol=1e-6)
    weights = torch.randn(seen.shape, generator=generator(1))
    assert torch.equal(torch.autograd.grad((seen * weights).sum(), pictures)[0], weights)


def test_squeezes_are_applied_in_order_and_before_the_crop(soft: Batch) -> None:
    view = View(augment=False, generator=generator(0), through=Through(modules="gray+jpeg", qualities=(30,)))
    assert torch.equal(view.draw(soft.pictures)(soft.pictures), jpeg_differentiable(gray_soft(soft.pictures), 30))
    both = (View(augment=True, generator=generator(0), through=Through(modules=m)) for m in ("", "gray"))
    plain, squeezed = (view.draw(soft.pictures)(soft.pictures) for view in both)
    assert torch.allclose(squeezed, gray_soft(plain), atol=1e-6)


def test_one_of_several_qualities_is_drawn_for_every_step_and_one_alone_draws_nothing(soft: Batch) -> None:
    qualities, source = (10, 50, 90), generator(0)
    ensemble = Through(modules="jpeg", qualities=qualities, backward="bpda")
    expected = [jpeg(soft.pictures, quality) for quality in qualities]
    drawn = []
    for _ in range(30):
        seen = ensemble.choose(source)(soft.pictures)
        drawn.append(next(i for i, known in enumerate(expected) if torch.allclose(seen, known, atol=1e-6)))
    assert set(drawn) == {0, 1, 2}
    for look, known in zip(ensemble.every(), expected, strict=True):
        assert torch.allclose(look(soft.pictures), known, atol=1e-6)
    state = source.get_state()
    Through(modules="gray+jpeg").choose(source)
    Through(modules="gray", qualities=qualities).choose(source)
    assert torch.equal(source.get_state(), state)


def test_what_is_made_through_jpeg_depends_on_quality_and_backward(soft: Batch) -> None:
    spellings = ["", "qualities=[10]", "qualities=[90]", "qualities=[10, 90]", "backward=bpda"]
    first, same, *rest = (noise_of(f"error-minimizing({TINY}, through=jpeg, {more})", soft) for more in spellings)
    assert torch.equal(first, same)
    found = [first, *rest]
    assert not any(torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])


def test_adaptive_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="through = 'gray' leaves out; write through=jpeg"):
        made("error-minimizing(through=gray, qualities=[50])")
    with pytest.raises(ConfigError, match="through = '' leaves out"):
        made("error-minimizing(backward=bpda)")
    with pytest.raises(ConfigError, match="name at least one"):
        made("error-minimizing(through=jpeg, qualities=[])")
    with pytest.raises(ConfigError, match="quality = 96 is not accepted"):
        made("error-minimizing(through=jpeg, qualities=[10, 96])")
    with pytest.raises(ConfigError, match="through"):
        made("error-minimizing(through=median)")


def test_gray_patchworks_keep_their_radius_and_survive_gray(soft: Batch) -> None:
    middle = soft.with_pictures(torch.full_like(soft.pictures, 128 / 255))
    noise = noise_of("linear-separable(eps=0.652, patch_size=8, gray=true)", middle)
    assert torch.equal(noise, noise[:, :1].expand_as(noise))
    assert torch.allclose(noise.flatten(1).norm(dim=1), torch.tensor(0.652), atol=1e-4)
    moved = (middle.pictures + noise).clamp(0, 1)
    lost = (gray(moved) - moved).abs().max()
    assert float(lost) < 1 / 255
    coloured = noise_of("linear-separable(eps=0.652, patch_size=8)", middle)
    moved = (middle.pictures + coloured).clamp(0, 1)
    assert float((gray(moved) - moved).abs().max()) > 4 / 255
