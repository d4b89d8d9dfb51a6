"""One row of tiny settings for every form of every registered method. A method without a row fails the suite.

To add a method: register it in countermove/unlearnable/methods.py and add a row here; then
``python -m tests.unlearnable.golden_update`` if it needs no network.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MoveRow:
    """How a poison is tried on 24 pictures of 16 x 16.

    settings:   as spelled between brackets.
    random:     whether another seed gives other pictures.
    radius:     whether eps is the radius that it moves by; eps = 0 must then change nothing.
    needs_file: whether it reads somebody's poison; the suite writes one.
    network:    whether its output comes from a network, so that it differs by machine.
    ours:       whether there is no paper to name.
    """

    settings: str = ""
    random: bool = True
    radius: bool = True
    needs_file: bool = False
    network: bool = False
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class CountermoveRow:
    """How a countermeasure is tried on 24 pictures of 16 x 16.

    kind:     "squeeze" changes pictures once, "step" training batches, "selection" chooses pictures, or "none".
    settings: as spelled between brackets.
    ours:     whether there is no paper to name.
    """

    kind: str
    settings: str = ""
    ours: bool = False


_EM = "batch_size=8, batches=2, rounds=2, surrogate='small-cnn(width=0.1)'"
_MAX = "batch_size=8, steps=2, step=3/255, surrogate='small-cnn(width=0.1)', surrogate_epochs=1"

MOVE_ROWS: dict[str, list[MoveRow]] = {
    "none": [MoveRow(random=False, radius=False, ours=True)],
    "error-minimizing": [
        MoveRow(settings=f"{_EM}, steps=3, form=sample", network=True),
        MoveRow(settings=f"{_EM}, steps=3, form=sample, augment=false", network=True),
        MoveRow(settings=f"{_EM}, share=0.5, form=class", network=True),
    ],
    "error-maximizing": [
        # The sample-wise form draws nothing: its seed lies in the surrogate, which the suite keeps.
        MoveRow(settings=f"{_MAX}, form=sample", network=True, random=False),
        MoveRow(settings=f"{_MAX}, form=class", network=True),
    ],
    "random": [MoveRow(settings="form=sample"), MoveRow(settings="form=class")],
    "regions": [MoveRow(), MoveRow(settings="regions=9, eps=16/255")],
    "linear-separable": [MoveRow(settings="eps=0.652, patch_size=4"), MoveRow(settings="eps=1.0, patch_size=8")],
    "precomputed": [
        MoveRow(random=False, radius=False, needs_file=True, ours=True),
        MoveRow(settings="eps=8/255", random=False, radius=False, needs_file=True, ours=True),
    ],
}

COUNTERMOVE_ROWS: dict[str, list[CountermoveRow]] = {
    "none": [CountermoveRow(kind="none", ours=True)],
    "gray": [CountermoveRow(kind="squeeze")],
    "jpeg": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="quality=75")],
    "bit-depth": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="bits=5")],
    "median": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="size=5")],
    "mean": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="size=5")],
    "gaussian": [CountermoveRow(kind="squeeze"), CountermoveRow(kind="squeeze", settings="sigma=0.5, size=5")],
    "cutout": [CountermoveRow(kind="step", settings="length=5")],
    "cutmix": [CountermoveRow(kind="step")],
    "mixup": [CountermoveRow(kind="step")],
    "left-out": [CountermoveRow(kind="selection")],
}
