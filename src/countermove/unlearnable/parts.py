"""What poisons share that are made of other poisons: reading a part, and its own corner of a context."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from countermove.errors import ConfigError
from countermove.game.methods import Composition
from countermove.pixels.balls import Ball
from countermove.pixels.rounding import quantize_move
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context, Meter


def read_part(spelled: str, *, owner: str) -> Composition:
    """Build the one poison that a setting spells.

    Raises:
        ConfigError: when it spells none, several, or a poison that cannot be built.
    """
    part = METHODS.compose("move", spelled)
    if len(part.parts) != 1 or part.is_none:
        raise ConfigError(
            f"{owner}: {spelled!r} is refused as a part: spell one poison, such as 'error-minimizing(form=class)'"
        )
    return part


def corner(context: Context, name: str) -> Context:
    """Return a context for one part: checkpoints, counts and what it keeps do not meet those of other parts."""
    folder = None if context.folder is None else context.folder / name
    return replace(context, folder=folder, meter=Meter(), kept={})


def charge(context: Context, name: str, part: Context) -> None:
    """Add to the whole what a part counted, its facts under its name."""
    context.meter.samples += part.meter.samples
    if part.meter.facts:
        context.meter.facts[name] = part.meter.facts


def kept_within(pictures: Tensor, clean: Tensor, ball: Ball | None) -> Tensor:
    """Clip pictures [N, 3, H, W], and round them to 8 bits inside a ball where one is promised.

    A poison without a norm of its own does this itself, as the caller then rounds to the nearest level.
    """
    pictures = pictures.clamp(0, 1)
    return pictures if ball is None else quantize_move(pictures, clean, ball)
