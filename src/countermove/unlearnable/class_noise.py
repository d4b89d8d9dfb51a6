"""Finding a class's noise again from published pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from countermove.pixels.batch import Batch


def class_noise(clean: Batch, moved: Batch) -> Tensor:
    """Return the noise that all pictures of a class were given, [K, 3, H, W]; zero where a class has no picture.

    Args:
        clean: pictures with labels.
        moved: the same pictures with their class's noise, clipped to [0, 1].
    """
    return strongest(moved.pictures - clean.pictures, clean.labels, len(clean.classes))


def strongest(changes: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return in each value the largest change, by magnitude, among the pictures of each class.

    Clipping to [0, 1] only draws a change toward zero, so this is the class's noise wherever one of its pictures had
    room for it.

    Args:
        changes: [N, ...].
        labels: int64 [N].
        classes: K.

    Returns:
        [K, ...].
    """
    found = changes.new_zeros(classes, *changes.shape[1:])
    for label in labels.unique().tolist():
        own = changes[labels == label]
        highest, lowest = own.amax(0), own.amin(0)
        found[label] = torch.where(highest >= -lowest, highest, lowest)
    return found
