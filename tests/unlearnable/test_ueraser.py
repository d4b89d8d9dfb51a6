"""UEraser: its views, and that the hardest one is taken. What every countermeasure keeps: test_countermeasures.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.operations import OPERATIONS
from countermove.nets.small import SmallCnn
from countermove.pixels.batch import Batch
from countermove.pixels.clouds import clouds
from countermove.pixels.randomness import generator
from countermove.unlearnable.countermeasures.ueraser import RANGES, HardestView, UEraser, erased


@pytest.fixture
def network() -> nn.Module:
    return SmallCnn(width=0.1)(3, 16, generator(2))


def views_of(pictures: Tensor, views: int, seed: int) -> Tensor:
    """Return [V, N, 3, H, W], drawn as the step draws them."""
    return erased(pictures.repeat(views, 1, 1, 1), 0.5, generator(seed)).unflatten(0, (views, -1))


def test_of_all_views_each_picture_gets_the_one_with_the_highest_loss(pictures: Batch, network: nn.Module) -> None:
    step = HardestView(views=4, share=0.5, probability=0.5)
    x, labels = pictures.pictures, pictures.labels
    found, _ = step(network, x, labels, generator=generator(5), progress=0.49)
    network.eval()
    positions = set()
    for i in range(len(x)):  # one picture and one view at a time
        views = views_of(x, 4, 5)[:, i]
        with torch.no_grad():
            losses = [float(F.cross_entropy(network(view[None]), labels[i : i + 1])) for view in views]
        worst = max(range(4), key=losses.__getitem__)
        assert torch.equal(found[i], views[worst])
        positions.add(worst)
    assert len(positions) > 1


def test_it_takes_one_view_after_its_share_of_the_training(pictures: Batch, network: nn.Module) -> None:
    step, x, labels = HardestView(views=4, share=0.5, probability=0.5), pictures.pictures, pictures.labels
    late, _ = step(network, x, labels, generator=generator(5), progress=0.5)
    assert torch.equal(late, views_of(x, 1, 5)[0])
    early, _ = step(network, x, labels, generator=generator(5), progress=0.0)
    assert not torch.equal(late, early)


def test_what_it_costs() -> None:
    def passes(views: int, share: float) -> float:
        return HardestView(views=views, share=share, probability=0.5).passes

    assert passes(6, 1) == pytest.approx(2)
    assert passes(6, 0.5) == pytest.approx(1)
    assert passes(1, 1) == 0  # no view is only looked at
    assert passes(5, 0) == 0


def test_the_first_clouds_brighten_and_the_second_ones_change_contrast() -> None:
    """On middle gray, contrast changes nothing, so what is seen is twice the cloud minus one, times an intensity."""
    gray = torch.full((200, 3, 16, 16), 0.5)
    source = generator(3)
    torch.rand(200, generator=source)  # all are drawn
    intensity = 0.5 + 0.5 * torch.rand(200, generator=source)
    roughness = 0.3 + 0.4 * torch.rand(200, generator=source)
    bright = 0.5 + intensity[:, None, None, None] * (2 * clouds(gray, roughness, source) - 1)
    torch.rand(200, generator=source)
    roughness = 0.3 + 0.4 * torch.rand(200, generator=source)
    contrast = (bright.clamp(0, 1) - 0.5) * 4 * clouds(gray, roughness, source) + 0.5
    seen = erased(gray, 1.0, generator(3)).sort(dim=1).values  # the shuffle keeps the three values of a pixel
    expected = contrast.clamp(0, 1).sort(dim=1).values
    same = (seen - expected).flatten(1).abs().amax(1) < 1e-5
    assert 0 < same.float().mean() < 0.5  # where TrivialAugment drew what changes little or nothing
    assert ((seen - expected).abs().flatten(1).median(1).values < 0.15).float().mean() > 0.3


def test_a_view_without_clouds_and_shuffle_is_one_operation(pictures: Batch) -> None:
    x = pictures.pictures
    plain = erased(x, 0.0, generator(3))
    source = generator(3)
    for _ in range(3):  # nobody is drawn for clouds, clouds and shuffle
        torch.rand(len(x), generator=source)
    which = torch.randint(len(RANGES), (len(x),), generator=source)
    share = torch.rand(len(x), generator=source)
    for i, (position, part) in enumerate(zip(which.tolist(), share.tolist(), strict=True)):
        name = list(RANGES)[position]
        low, high = RANGES[name]
        strength = (low + (high - low) * part) * (x.shape[-1] if name.startswith("Translate") else 1)
        alone = OPERATIONS[name](x[i : i + 1], torch.tensor([strength]))
        assert (plain[i : i + 1] - alone).abs().max() < 1e-6


def test_views_stay_pictures_and_differ(pictures: Batch) -> None:
    x = pictures.pictures
    views = views_of(x, 8, 0)
    assert torch.isfinite(views).all()
    assert float(views.min()) >= 0
    assert float(views.max()) <= 1
    sure = erased(x, 1.0, generator(0))
    assert ((sure - x).flatten(1).abs().amax(1) > 0.05).all()
    for i in range(1, 8):
        assert not torch.equal(views[0], views[i])


@pytest.mark.parametrize("settings", [{"views": 0}, {"share": 1.1}, {"share": float("nan")}, {"probability": -0.1}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=rf"ueraser: {next(iter(settings))}"):
        UEraser(**settings)  # pyright: ignore[reportArgumentType]
