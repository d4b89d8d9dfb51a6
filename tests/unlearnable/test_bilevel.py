"""The min-min game: it ends, it can be interrupted and goes on to the same noise, and a whole patch is no patch."""

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


FORMS = [
    "sample",
    "class",
    "class, patch=8",
    "sample, patch=8, solver=adam",
    "sample, through=gray+jpeg, qualities=[10, 50], backward=bpda",
]


@pytest.mark.parametrize("form", FORMS)
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


@pytest.mark.parametrize("form", ["sample", "class"])
@pytest.mark.parametrize("solver", ["pgd", "adam", "lbfgs"])
def test_a_surrogate_that_never_learns_ends_at_the_bound_and_says_so(form: str, solver: str, pictures: Batch) -> None:
    context = Context(seed=0)
    spelled = SPELLED.format(form=f"{form}, stop_error=1e-9, eps=0, solver={solver}")
    METHODS.compose("move", spelled).method(pictures, context=context)
    facts = context.meter.facts
    assert facts["rounds"] == 3
    assert facts["stopped_early"] is False
    assert facts["surrogate_error"] > 1e-9


@pytest.mark.parametrize("form", ["sample", "class"])
def test_a_patch_as_large_as_the_picture_is_the_whole_picture(form: str, pictures: Batch) -> None:
    whole, patch = (
        METHODS.compose("move", SPELLED.format(form=f"{form}, patch={side}")).method(pictures, context=Context(seed=2))
        for side in (0, 16)
    )
    assert torch.equal(whole.pictures, patch.pictures)


def test_every_pass_of_the_sweeps_and_the_surrogate_is_counted(pictures: Batch) -> None:
    for settings, passes in [("steps=2", 2), ("steps=5, solver=adam", 5)]:
        context = Context(seed=0)
        spelled = SPELLED.replace("steps=2", settings).format(form="sample, stop_error=1e-9")
        METHODS.compose("move", spelled).method(pictures, context=context)
        assert context.meter.samples == 3 * (3 * 8 + passes * 24)
