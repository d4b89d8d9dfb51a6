"""The min-min game can be interrupted and goes on to the same noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from countermove.learning.checkpoint import Checkpoint
from countermove.pixels.batch import Batch
from countermove.unlearnable import bilevel
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.poison import Context

SPELLED = (
    "error-minimizing(batch_size=8, batches=3, rounds=3, steps=2, lr=0.0001, share=1.0, "
    "surrogate='small-cnn(width=0.25)', form={form})"
)


class Killed(Exception):
    """Stands for a process that dies."""


@pytest.mark.parametrize("form", ["sample", "class"])
def test_an_interrupted_crafting_goes_on_to_the_same_bytes(
    form: str, pictures: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = METHODS.compose("move", SPELLED.format(form=form)).method
    whole = poison(pictures, context=Context(seed=5))
    monkeypatch.setattr(Context, "checkpoint", lambda self, name: Checkpoint(tmp_path / name, every=0))
    measured, rounds = bilevel._error, []

    def dies_in_the_third_round(*args: object) -> float:
        rounds.append(1)
        if len(rounds) == 3:
            raise Killed
        return measured(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(bilevel, "_error", dies_in_the_third_round)
    with pytest.raises(Killed):
        poison(pictures, context=Context(seed=5))
    monkeypatch.setattr(bilevel, "_error", measured)
    context = Context(seed=5)
    resumed = poison(pictures, context=context)
    assert context.meter.facts["rounds"] == 3
    assert torch.equal(resumed.pictures, whole.pictures)
