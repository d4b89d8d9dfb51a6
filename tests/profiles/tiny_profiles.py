"""A few profiles of every medium, made in code: the classes differ in colour, pitch or one feature."""

from __future__ import annotations

import torch
from torch import Tensor

from countermove.pixels.randomness import generator
from countermove.profiles.dataset import Medium, Profiles

RATE = 4000
_PROFILES, _ITEMS, _BACKGROUND, _PUBLIC = 12, 3, 8, 24


def tiny(medium: Medium, *, side: int = 16, samples: int = 1600, seed: int = 0) -> Profiles:
    """12 profiles of 3 items, 8 background and 24 public items; two classes everywhere."""
    labels = torch.arange(_PROFILES) % 2
    count = _PROFILES * _ITEMS
    kinds, public_labels = torch.arange(_BACKGROUND) % 2, torch.arange(_PUBLIC) % 2
    shown = torch.cat([labels.repeat_interleave(_ITEMS), kinds, public_labels])
    make = {"picture": _pictures, "speech": _clips, "table": _rows}[medium]
    items = make(shown, side if medium == "picture" else samples, generator(seed, "tiny", medium))
    rows = torch.arange(len(shown))
    return Profiles(
        name=f"tiny {medium}",
        medium=medium,
        items=items,
        ids=tuple(f"item-{i:03d}" for i in rows.tolist()),
        bags=tuple(rows[:count].split(_ITEMS)),
        labels=labels,
        owners=tuple(f"owner-{i:02d}" for i in range(_PROFILES)),
        profile_ids=tuple(f"profile-{i:02d}" for i in range(_PROFILES)),
        classes=("no", "yes"),
        train=torch.arange(6),
        validation=torch.arange(6, 8),
        test=torch.arange(8, 12),
        background=rows[count : count + _BACKGROUND],
        kinds=kinds,
        public=rows[count + _BACKGROUND :],
        public_labels=public_labels,
        public_classes=("no", "yes"),
        rate=RATE if medium == "speech" else 0,
    )


def _pictures(shown: Tensor, side: int, source: torch.Generator) -> Tensor:
    colours = torch.tensor([[160.0, 90.0, 90.0], [90.0, 90.0, 160.0]])[shown]
    noise = torch.randn(len(shown), 3, side, side, generator=source) * 30
    return (colours[:, :, None, None] + noise).clamp(0, 255).to(torch.uint8)


def _clips(shown: Tensor, samples: int, source: torch.Generator) -> Tensor:
    hertz = 250 + 250 * shown[:, None] + 25 * torch.randn(len(shown), 1, generator=source)
    tones = torch.sin(2 * torch.pi * hertz * torch.arange(samples) / RATE)
    return (8000 * tones + 800 * torch.randn(len(shown), samples, generator=source)).to(torch.int16)


def _rows(shown: Tensor, _: int, source: torch.Generator) -> Tensor:
    rows = torch.randn(len(shown), 6, generator=source) * torch.tensor([1.0, 10.0, 0.1, 1.0, 1.0, 0.0]) + 5
    rows[:, 0] += 2 * shown
    return rows
