"""From one data set to another: pictures of its size, classes that stand for others, noise that is a class's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.pixels.batch import Batch
from countermove.pixels.rounding import to_float, to_uint8
from countermove.unlearnable.class_noise import class_noise

EXTRA = "extra/"
"""Begins the ids of pictures that came from another data set."""

_CHUNK = 1000


def resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring 8-bit pictures [N, 3, H, W] to another size, bilinear with anti-aliasing; equal sizes come back as is."""
    if tuple(pictures.shape[2:]) == size:
        return pictures
    parts = [
        to_uint8(F.interpolate(to_float(part), size=size, mode="bilinear", antialias=True).clamp(0, 1))
        for part in pictures.split(_CHUNK)
    ]
    return torch.cat(parts)


def source_of_classes(wanted: Sequence[str], source: Sequence[str], mapping: Sequence[str]) -> dict[str, str]:
    """Return which class of the source stands for each wanted class.

    Args:
        wanted: names of the classes that need noise.
        source: names of the classes of the other data set.
        mapping: "wanted=source" texts, see `read_mapping`; empty: classes of equal names.

    Raises:
        DataError: when a wanted class has no source class, or one is named that does not exist.
    """
    pairs = read_mapping(mapping) if mapping else {name: name for name in wanted if name in source}
    unknown = [name for name in pairs.values() if name not in source]
    if unknown:
        raise DataError(f"the source has no class {unknown[0]!r} that the mapping names: {_near(unknown[0], source)}")
    gaps = [name for name in wanted if name not in pairs]
    if gaps:
        how = "add them to the mapping" if mapping else "give a mapping, such as mapping=['car=automobile']"
        raise DataError(f"no class of the source is given for: {', '.join(gaps)}; {how}. {_near(gaps[0], source)}")
    return {name: pairs[name] for name in wanted}


def read_mapping(mapping: Sequence[str]) -> dict[str, str]:
    """Read "wanted=source" texts.

    Raises:
        ConfigError: on a text without two names, or a class that is given twice.
    """
    pairs: dict[str, str] = {}
    for text in mapping:
        wanted, _, found = (part.strip() for part in text.partition("="))
        if not wanted or not found:
            raise ConfigError(f"mapping: {text!r} is refused: write class=source class, such as 'car=automobile'")
        if wanted in pairs:
            raise ConfigError(f"mapping: class {wanted!r} is given twice, as {pairs[wanted]!r} and {found!r}")
        pairs[wanted] = found
    return pairs


def carried_noise(clean: Batch, moved: Batch, *, what: str) -> dict[str, Tensor]:
    """Return the one noise [3, H, W] of each class that has pictures, from pictures before and after.

    Args:
        clean: the pictures.
        moved: what a poison made of them.
        what: what the poison is called, for the message.

    Raises:
        DataError: when pictures of a class carry different noise.
    """
    noise = class_noise(clean, moved)
    differ = ((clean.pictures + noise[clean.labels]).clamp(0, 1) - moved.pictures).abs().flatten(1).amax(1) > 1e-5
    if differ.any():
        label = int(clean.labels[differ][0])
        raise DataError(
            f"{what} gives the pictures of class {clean.classes[label]!r} different noise; only class-wise noise "
            "can be carried over by class, such as that of 'error-minimizing(form=class)'"
        )
    return {clean.classes[label]: noise[label] for label in clean.labels.unique().tolist()}


def _near(name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known)
    return hint if len(hint) < 400 else f"it has {len(known)} classes, such as {', '.join(list(known)[:8])}."
