"""Networks that make the noise of a picture from the picture, and what their poisons share.

They have group normalisation where the papers' have batch normalisation: so the noise of a picture is the same in any
batch, and the network that is used is the network that was trained.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.nets.parts import Normalize, check_fit, seeded
from countermove.pixels.batch import Batch
from countermove.unlearnable.poison import Context

CHUNK = 256
GROUPS = 8


class NoiseGenerator(nn.Module):
    """eps * tanh(network(picture)): noise [N, 3, H, W] inside an L-infinity ball, for pictures in [0, 1]."""

    def __init__(self, network: nn.Module, eps: float) -> None:
        """Keep the network and the radius."""
        super().__init__()
        self.normalize, self.network, self.eps = Normalize(), network, eps

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the noise."""
        return self.eps * torch.tanh(self.network(self.normalize(pictures)))


def build_generator(
    kind: Literal["resnet", "unet"], *, width: int, side: int, eps: float, generator: Generator
) -> NoiseGenerator:
    """Build an untrained noise generator.

    resnet: a convolution of 7 x 7, two halvings, two residual blocks, two doublings, a convolution of 7 x 7 (after
        Johnson et al. 2016). unet: three halvings and three doublings, each joined with what was halved (Ronneberger et
        al. 2015). Sides that are no multiple of 4 or 8 come back at their own size.

    Args:
        kind: which network.
        width: channels at the full size; they double with each halving.
        side: of the pictures, at least 8.
        eps: L-infinity radius.
        generator: what the weights are drawn from.

    Raises:
        ConfigError: pictures that are too small.
    """
    check_fit(f"the {kind} generator", classes=2, side=side, least=8)
    with seeded(generator):
        return NoiseGenerator(_Resnet(width) if kind == "resnet" else _Unet(width), eps)


def check_training(name: str, *, whole: dict[str, int], above_zero: dict[str, float]) -> None:
    """Refuse settings that no training can have.

    Args:
        name: of the poison.
        whole: numbers that are at least 1.
        above_zero: numbers that are finite and above 0.

    Raises:
        ConfigError: naming the poison and the setting.
    """
    for key, value in whole.items():
        if value < 1:
            raise ConfigError(f"{name}: {key} = {value} is refused: it must be 1 or more")
    for key, value in above_zero.items():
        if not 0 < value < float("inf"):
            raise ConfigError(f"{name}: {key} = {value:g} is refused: it must be finite and above 0")


@torch.no_grad()
def moved_by(network: NoiseGenerator, batch: Batch, device: str) -> Batch:
    """Return the pictures with their noise; each depends on itself alone."""
    parts = [x + network(x.to(device)).cpu() for x in batch.pictures.split(CHUNK)]
    return batch.with_pictures(torch.cat(parts).clamp(0, 1))


def kept_generator(poison: object, context: Context) -> NoiseGenerator:
    """Return the generator that a poison kept when it was called with this context.

    Raises:
        DataError: when it was not.
    """
    if repr(poison) not in context.kept:
        raise DataError(
            "the noise of new pictures comes from the generator that was trained when the poison was made, and there "
            "is none here; call the poison on its own pictures first, with the same context"
        )
    return context.kept[repr(poison)]


def adam_state(prefix: str, network: nn.Module, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Return weights and Adam's averages by name, to be stored."""
    tensors = {f"{prefix}.model.{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{prefix}.{key}.{name}"] = value
    return tensors


def restore_adam(prefix: str, network: nn.Module, optimizer: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    """Put back what `adam_state` returned, in place."""

    def under(start: str) -> dict[str, Tensor]:
        return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}

    network.load_state_dict(under(f"{prefix}.model."))
    averages = {key: under(f"{prefix}.{key}.") for key in ("step", "exp_avg", "exp_avg_sq")}
    for name, parameter in network.named_parameters():
        if name in averages["step"]:
            state: dict[str, Any] = {key: kept[name].to(parameter.device) for key, kept in averages.items()}
            optimizer.state[parameter] = {**state, "step": averages["step"][name]}


class _Resnet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        a, b, c = width, 2 * width, 4 * width
        self.enter = _conv(3, a, size=7)
        self.down = nn.ModuleList([_conv(a, b, stride=2), _conv(b, c, stride=2)])
        self.blocks = nn.ModuleList([nn.Sequential(_conv(c, c), *_conv(c, c)[:2]) for _ in range(2)])
        self.up = nn.ModuleList([_conv(c, b), _conv(b, a)])
        self.leave = nn.Conv2d(a, 3, 7, padding=3, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        sizes = []
        for halve in self.down:
            sizes.append(x.shape[-2:])
            x = halve(x)
        for block in self.blocks:
            x = x + block(x)
        for double, size in zip(self.up, reversed(sizes), strict=True):
            x = double(F.interpolate(x, size=size))
        return self.leave(x)


class _Unet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        a, b, c, d = width, 2 * width, 4 * width, 8 * width
        self.enter = _conv(3, a)
        self.down = nn.ModuleList([_conv(a, b, stride=2), _conv(b, c, stride=2), _conv(c, d, stride=2)])
        self.up = nn.ModuleList([_conv(d + c, c), _conv(c + b, b), _conv(b + a, a)])
        self.leave = nn.Conv2d(a, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        passed = []
        for halve in self.down:
            passed.append(x)
            x = halve(x)
        for double, skip in zip(self.up, reversed(passed), strict=True):
            x = double(torch.cat([F.interpolate(x, size=skip.shape[-2:]), skip], dim=1))
        return self.leave(x)


def _conv(channels: int, out: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    groups = max(g for g in range(1, GROUPS + 1) if out % g == 0)
    return nn.Sequential(
        nn.Conv2d(channels, out, size, stride, size // 2, padding_mode="reflect" if size > 3 else "zeros", bias=False),
        nn.GroupNorm(groups, out),
        nn.ReLU(),
    )
