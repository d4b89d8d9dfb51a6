"""Test pictures that carry a move: has a model learned the pictures, or the move?

Liu et al. 2023 test models on moved test pictures (thesis, table 3.10) and on the parts of a sum (figure 3.4); Huang et
al. 2021 put another class's noise on test pictures, as a backdoor's trigger (figure 8). Such pictures are made with the
move, stored beside it, and scored in every cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from countermove.learning.scoring import Examples
from countermove.pixels.batch import Batch
from countermove.pixels.mapped import portions, room_for
from countermove.pixels.rounding import quantize_move, to_uint8
from countermove.unlearnable.dataset import Pictures
from countermove.unlearnable.poison import Context, ball_of, on_new_pictures

PREFIX = "test-"


def put_on_test(poison: Any, test: Batch, *, clean: Batch, moved: Batch, context: Context) -> dict[str, Examples]:
    """Return test pictures with the move on them, by the metric that they are scored for; none where it is undefined.

    accuracy_moved_test: every picture carries what its own class's pictures carry.
    trigger_success:     every picture carries what another class's do, and is labelled as that class; only where a
                         move follows the class and costs little.
    accuracy_first_test, accuracy_second_test: only one part of a combined move.

    Args:
        poison: the method.
        test: the clean test pictures of the moved classes.
        clean: the train pictures before the move.
        moved: the same after it, as published.
        context: the one that the move was made with.
    """
    made = {"accuracy_moved_test": on_new_pictures(poison, test, clean=clean, moved=moved, context=context)}
    if _follows_the_class(poison) and _has_all(clean.labels, len(clean.classes)):
        aimed = replace(test, labels=_further(test.labels, len(test.classes), context))
        made["trigger_success"] = on_new_pictures(poison, aimed, clean=clean, moved=moved, context=context)
    if hasattr(poison, "parts_on_test"):
        parts: Mapping[str, Batch | None] = poison.parts_on_test(test, clean=clean, context=context)
        made |= {f"accuracy_{name}_test": part for name, part in parts.items()}
    return {name: _rounded(poison, batch, test) for name, batch in made.items() if batch is not None}


def put_on_test_in_portions(
    poison: Any, test: Pictures, rows: Tensor, *, trained: Tensor, context: Context
) -> dict[str, Examples]:
    """Do what put_on_test does with a poison that goes by portions; only a portion of the pictures is there as floats.

    Args:
        poison: the method.
        test: clean test pictures.
        rows: positions of those of the moved classes.
        trained: the labels of the pictures that the move was made for.
        context: the one that the move was made with.
    """
    if not getattr(poison, "on_new", True):
        return {}
    labels = {"accuracy_moved_test": test.labels[rows]}
    if _has_all(trained, len(test.classes)):
        labels["trigger_success"] = _further(test.labels[rows], len(test.classes), context)
    made = {}
    for name, named in labels.items():
        stored = room_for((len(rows), *test.pictures.shape[1:]))
        for part in portions(len(rows), stored.shape):
            batch = test.batch(rows[part])
            moved = poison(replace(batch, labels=named[part]), context=context)
            stored[part] = _rounded(poison, moved, batch).pictures
        made[name] = Examples(pictures=stored, labels=named)
    return made


def write_test(sets: Mapping[str, Examples], folder: Path) -> None:
    """Store sets of test pictures, one file each."""
    for name, examples in sets.items():
        tensors = {"pictures": examples.pictures.contiguous(), "labels": examples.labels}
        save_file(tensors, folder / f"{PREFIX}{name}.safetensors")


def read_test(folder: Path) -> dict[str, Examples]:
    """Return the stored sets by metric."""
    found = {}
    for path in sorted(folder.glob(f"{PREFIX}*.safetensors")):
        tensors = load_file(path)
        found[path.stem.removeprefix(PREFIX)] = Examples(pictures=tensors["pictures"], labels=tensors["labels"])
    return found


def _has_all(labels: Tensor, classes: int) -> bool:
    return set(labels.tolist()) == set(range(classes))


def _further(labels: Tensor, classes: int, context: Context) -> Tensor:
    """Return another class for each label, drawn from the context's seed."""
    return (labels + torch.randint(1, classes, (len(labels),), generator=context.generator("trigger"))) % classes


def _follows_the_class(poison: Any) -> bool:
    """Whether another label gives other noise without another crafting."""
    return poison.streams or getattr(poison, "form", "") == "class"


def _rounded(poison: Any, batch: Batch, test: Batch) -> Examples:
    ball = ball_of(poison)
    pictures = batch.pictures if ball is None else quantize_move(batch.pictures, test.pictures, ball)
    return Examples(pictures=to_uint8(pictures), labels=batch.labels)
