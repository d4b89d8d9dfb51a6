"""Operations against torchvision's, which do one picture at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as reference

from countermove.learning.operations import OPERATIONS, apply
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float

N = 12
RANGES = {
    "ShearX": (-0.3, 0.3),
    "ShearY": (-0.3, 0.3),
    "TranslateX": (-14, 14),
    "TranslateY": (-14, 14),
    "Rotate": (-30, 30),
    "Posterize": (1, 8),
    "Solarize": (0, 255),
}


def drawn(height: int = 32, width: int = 32) -> Tensor:
    """Return random levels; one picture without contrast, one channel constant."""
    pictures = torch.randint(0, 256, (N, 3, height, width), generator=generator(0, "operations")).to(torch.uint8)
    pictures[0] = pictures[0] // 4 + 100
    pictures[1, 0] = 7
    return pictures


def strengths(name: str) -> Tensor:
    low, high = RANGES.get(name, (-0.9, 0.9))
    return torch.linspace(low, high, N)


def by_torchvision(name: str, x: Tensor, strength: float) -> Tensor:
    """Return one 8-bit picture changed."""
    angle = float(torch.rad2deg(torch.atan(torch.tensor(strength))))
    factor = 1 + strength

    def affine(translate: list[int], shear: list[float], center: list[int] | None = None) -> Tensor:
        return reference.affine(x, angle=0.0, scale=1.0, translate=translate, shear=shear, center=center)

    return {
        "Identity": lambda: x,
        "ShearX": lambda: affine([0, 0], [angle, 0.0], [0, 0]),
        "ShearY": lambda: affine([0, 0], [0.0, angle], [0, 0]),
        "TranslateX": lambda: affine([int(strength), 0], [0.0, 0.0]),
        "TranslateY": lambda: affine([0, int(strength)], [0.0, 0.0]),
        "Rotate": lambda: reference.rotate(x, strength),
        "Brightness": lambda: reference.adjust_brightness(x, factor),
        "Color": lambda: reference.adjust_saturation(x, factor),
        "Contrast": lambda: reference.adjust_contrast(x, factor),
        "Sharpness": lambda: reference.adjust_sharpness(x, factor),
        "Posterize": lambda: reference.posterize(x, int(strength)),
        "Solarize": lambda: reference.solarize(x, strength),
        "AutoContrast": lambda: reference.autocontrast(x),
        "Equalize": lambda: reference.equalize(x),
        "Invert": lambda: reference.invert(x),
    }[name]()


@pytest.mark.parametrize("height", [32, 20])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(name: str, height: int) -> None:
    pictures, strength = drawn(height), strengths(name)
    expected = torch.stack([by_torchvision(name, x, float(s)) for x, s in zip(pictures, strength, strict=True)])
    changed = OPERATIONS[name](to_float(pictures), strength)
    assert changed.shape == pictures.shape
    rounds_down = name in {"Brightness", "Color", "Contrast", "Sharpness", "AutoContrast"}
    off = (changed * 255 - expected).abs().max()
    assert off < (2 if rounds_down else 0.01)  # torchvision cuts off to whole levels, up to twice
    assert torch.equal(changed, to_float(pictures)) == (name == "Identity")


def test_no_strength_changes_nothing() -> None:
    pictures = to_float(drawn())
    for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"):
        torch.testing.assert_close(OPERATIONS[name](pictures, torch.zeros(N)), pictures, msg=name)
    torch.testing.assert_close(OPERATIONS["Sharpness"](pictures, torch.zeros(N)), pictures)
    assert torch.equal(OPERATIONS["Posterize"](pictures, torch.full((N,), 8.0)), pictures)


def test_every_picture_gets_its_own_operation() -> None:
    pictures, names = to_float(drawn()), ("Invert", "Rotate", "Equalize", "Color")
    kept = pictures.clone()
    which, strength = torch.arange(N) % 5 - 1, torch.linspace(-0.9, 0.9, N)
    changed = apply(pictures, names, which, strength)
    assert torch.equal(pictures, kept)
    for i in range(N):
        alone = pictures[i : i + 1]
        if which[i] >= 0:
            alone = OPERATIONS[names[int(which[i])]](alone, strength[i : i + 1])
        torch.testing.assert_close(changed[i : i + 1], alone)
    assert torch.equal(apply(pictures[:0], names, which[:0], strength[:0]), pictures[:0])
