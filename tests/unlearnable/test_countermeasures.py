"""What every countermeasure must keep, and that it does what it says. Rows: rows.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.unlearnable.rows import COUNTERMOVE_ROWS, CountermoveRow
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.learning.augment import CutMixStep, CutoutStep, MixUpStep
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.learning.stopping import Stopping
from countermove.nets.small import SmallCnn
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import squeeze_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.methods import METHODS

CASES = [(name, row) for name, rows in COUNTERMOVE_ROWS.items() for row in rows]


def _of_kind(*kinds: str) -> Callable[[Any], Any]:
    chosen = [case for case in CASES if case[1].kind in kinds]
    return pytest.mark.parametrize("case", chosen, ids=lambda case: _spelled(case))


def _spelled(case: tuple[str, CountermoveRow], **more: str) -> str:
    name, row = case
    settings = ", ".join(filter(None, [row.settings, *(f"{key}={value}" for key, value in more.items())]))
    return f"{name}({settings})" if settings else name


every = _of_kind("squeeze", "step", "model-step", "stop", "selection", "fitted", "decision", "none")
squeezing = _of_kind("squeeze")
stepping = _of_kind("step")
asking = _of_kind("model-step")


def reply(spelled: str, plan: Plan, *, seed: int = 0) -> Plan:
    for part in METHODS.compose("countermove", spelled).parts:
        plan = part.method(plan, context=ReplyContext(seed=seed))
    return plan


@pytest.fixture
def plan(pictures: Batch) -> Plan:
    """8-bit pictures of smooth shapes with some noise, every fourth of them moved."""
    coarse = torch.rand(24, 3, 4, 4, generator=generator(7))
    shapes = torch.nn.functional.interpolate(coarse, size=16, mode="bilinear")
    noisy = to_uint8(shapes + 0.1 * torch.rand(24, 3, 16, 16, generator=generator(8)) - 0.05)
    received = Examples(pictures=noisy, labels=pictures.labels)
    return Plan(received=received, moved=torch.arange(len(noisy)) % 4 == 0, recipe=Recipe(epochs=1))


def network() -> nn.Module:
    """Return a small network in training mode, the same every time."""
    return SmallCnn(width=0.1)(3, 16, generator(2))


def batch_of(plan: Plan) -> tuple[Tensor, Tensor]:
    return to_float(plan.received.pictures), torch.nn.functional.one_hot(plan.received.labels, 3).float()


@every
def test_what_is_received_keeps_its_form(case: tuple[str, CountermoveRow], plan: Plan) -> None:
    kept = plan.received.pictures.clone(), plan.received.labels.clone(), plan.moved.clone()
    after = reply(_spelled(case), plan)
    assert after.received.pictures.dtype == torch.uint8
    assert after.received.pictures.shape[1:] == kept[0].shape[1:]
    assert len(after.received.pictures) == len(after.received.labels) == len(after.moved)
    assert after.recipe == plan.recipe
    if case[1].kind != "selection":
        assert torch.equal(after.received.labels, kept[1])
        assert torch.equal(after.moved, kept[2])
    # What came is kept in memory for other cells: it must not be written to.
    assert torch.equal(plan.received.pictures, kept[0])
    assert torch.equal(plan.received.labels, kept[1])
    assert (plan.test_squeezes, plan.steps, plan.model_steps, plan.stop) == ((), (), (), None)


@every
def test_it_is_deterministic_and_leaves_the_global_states(case: tuple[str, CountermoveRow], plan: Plan) -> None:
    before = _global_states()
    first, again = reply(_spelled(case), plan), reply(_spelled(case), plan)
    assert torch.equal(first.received.pictures, again.received.pictures)
    assert torch.equal(first.received.labels, again.received.labels)
    for one, other in zip(first.steps, again.steps, strict=True):
        results = [step(*batch_of(plan), generator=generator(3)) for step in (one, other)]
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
    for one, other in zip(first.model_steps, again.model_steps, strict=True):
        found = [step(network(), *batch_of(plan), generator=generator(3), progress=0.0) for step in (one, other)]
        assert torch.equal(found[0][0], found[1][0])
    assert _global_states() == before


def _global_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().tolist(), name, np.asarray(keys).tolist(), tuple(rest), random.getstate()


@every
def test_it_does_the_kind_of_thing_its_row_says(case: tuple[str, CountermoveRow], plan: Plan) -> None:
    after = reply(_spelled(case), plan)
    kind = case[1].kind
    same = after.received.pictures.shape == plan.received.pictures.shape and torch.equal(
        after.received.pictures, plan.received.pictures
    )
    assert kind == "decision" or same == (kind in {"step", "model-step", "stop", "none"})
    assert bool(after.steps) == (kind == "step")
    assert bool(after.model_steps) == (kind == "model-step")
    assert (after.stop is not None) == (kind == "stop")
    assert after.test_squeezes == ()
    names = {field.name for field in fields(METHODS.compose("countermove", _spelled(case)).method)}
    for half in ("train", "test"):
        squeezes = kind in {"squeeze", "fitted"} or case[0] == "automatic"
        assert (half in names) == squeezes, "a squeeze offers train and test, and only a squeeze does"


@squeezing
def test_a_squeeze_really_changes_every_picture(case: tuple[str, CountermoveRow], plan: Plan) -> None:
    after = reply(_spelled(case), plan).received.pictures.int()
    change = (after - plan.received.pictures).abs().flatten(1).float()
    assert (change.mean(1) >= 0.5).all(), "on average not half a level of change: this filters nothing"
    assert ((change > 0).float().mean(1) > 0.3).all()


@squeezing
def test_a_squeeze_can_be_asked_for_at_test_time(case: tuple[str, CountermoveRow], plan: Plan) -> None:
    after = reply(_spelled(case, test="true"), plan)
    assert len(after.test_squeezes) == 1
    tested = squeeze_uint8(plan.received.pictures, after.test_squeezes[0])
    assert torch.equal(tested, after.received.pictures)
    assert torch.equal(tested, reply(_spelled(case), plan).received.pictures)


@squeezing
def test_a_squeeze_can_be_asked_for_at_test_time_only(case: tuple[str, CountermoveRow], plan: Plan) -> None:
    after = reply(_spelled(case, train="false", test="true"), plan)
    assert torch.equal(after.received.pictures, plan.received.pictures)
    (squeeze,) = after.test_squeezes
    assert torch.equal(squeeze_uint8(plan.received.pictures, squeeze), reply(_spelled(case), plan).received.pictures)
    with pytest.raises(ConfigError, match="train = false and test = false together squeeze nothing"):
        reply(_spelled(case, train="false"), plan)


@squeezing
def test_a_picture_is_squeezed_alike_in_any_company(
    case: tuple[str, CountermoveRow], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (squeeze,) = reply(_spelled(case, test="true"), plan).test_squeezes
    whole = squeeze_uint8(plan.received.pictures, squeeze)
    order = torch.randperm(24, generator=generator(1))
    assert torch.equal(squeeze_uint8(plan.received.pictures[order], squeeze), whole[order])
    singles = [squeeze_uint8(plan.received.pictures[i : i + 1], squeeze) for i in range(24)]
    assert torch.equal(torch.cat(singles), whole)
    monkeypatch.setattr("countermove.pixels.squeezes.SQUEEZE_CHUNK", 7)
    assert torch.equal(squeeze_uint8(plan.received.pictures, squeeze), whole)


@squeezing
def test_a_squeeze_stays_near_the_picture(case: tuple[str, CountermoveRow], plan: Plan) -> None:
    """Not a shuffle of pictures: of all pictures, its own is the nearest in brightness or in a channel."""
    own = plan.received.pictures.float()
    after = reply(_spelled(case), plan).received.pictures.float().mean(1).flatten(1)
    correlation = torch.corrcoef(torch.cat([after, *(x.flatten(1) for x in (own.mean(1), *own.unbind(1)))]))[:24, 24:]
    assert (correlation.argmax(1) % 24 == torch.arange(24)).all()


@pytest.mark.parametrize("name", ["median", "mean", "gaussian"])
def test_filters_smooth_each_channel_by_itself(name: str, plan: Plan) -> None:
    only_red = plan.received.pictures.clone()
    only_red[:, 1:] = 77
    changed = replace(plan, received=replace(plan.received, pictures=only_red))
    after = reply(name, changed).received.pictures
    assert (after[:, 1:] == 77).all()
    roughness = [x[:, 0].float().diff(dim=axis).abs().mean() for x in (only_red, after) for axis in (1, 2)]
    assert roughness[2] < 0.8 * roughness[0]
    assert roughness[3] < 0.8 * roughness[1]


def test_gray_has_three_equal_channels_and_bit_depth_few_levels(plan: Plan) -> None:
    gray = reply("gray", plan).received.pictures
    assert torch.equal(gray[:, 0], gray[:, 1])
    assert torch.equal(gray[:, 0], gray[:, 2])
    for spelled in ("channel-mean", "single-channel", "luma-quantization"):
        single = reply(spelled, plan).received.pictures
        assert torch.equal(single, single[:, :1].expand(-1, 3, -1, -1))
    assert torch.equal(reply("single-channel(channel=b)", plan).received.pictures[:, 0], plan.received.pictures[:, 2])
    assert len(reply("luma-quantization(levels=5)", plan).received.pictures.unique()) == 5
    assert reply("bit-depth", plan).received.pictures.unique().tolist() == [0, 64, 128, 192]
    assert len(reply("bit-depth(bits=1)", plan).received.pictures.unique()) == 2


def test_stronger_settings_change_more(plan: Plan) -> None:
    def change(spelled: str) -> float:
        return float((reply(spelled, plan).received.pictures.int() - plan.received.pictures).abs().float().mean())

    assert change("jpeg(quality=5)") > change("jpeg(quality=30)") > change("jpeg(quality=90)")
    assert change("bit-depth(bits=1)") > change("bit-depth(bits=3)") > change("bit-depth(bits=6)")
    assert change("mean(size=5)") > change("mean(size=3)")
    assert change("luma-quantization(levels=2)") > change("luma-quantization") > change("luma-quantization(chroma=5)")
    assert change("gaussian(sigma=2, size=5)") > change("gaussian(sigma=0.5, size=5)")


@pytest.mark.parametrize("spelled", ["gaussian(sigma=0.1)", "mean(size=1)", "median(size=4)", "bit-depth(bits=8)"])
def test_a_filter_that_would_change_nothing_is_refused(spelled: str) -> None:
    with pytest.raises(ConfigError, match="change"):
        METHODS.compose("countermove", spelled)


@stepping
def test_a_batch_step_keeps_the_form_of_a_batch(case: tuple[str, CountermoveRow], plan: Plan) -> None:
    (step,) = reply(_spelled(case), plan).steps
    pictures, targets = batch_of(plan)
    kept = pictures.clone(), targets.clone()
    mixed, labels = step(pictures, targets, generator=generator(0))
    assert mixed.shape == pictures.shape
    assert mixed.dtype == torch.float32
    assert labels.shape == targets.shape
    assert torch.allclose(labels.sum(1), torch.ones(24))
    assert float(labels.min()) >= 0
    assert float(mixed.min()) >= 0
    assert float(mixed.max()) <= 1
    assert not torch.equal(mixed, pictures)
    assert torch.equal(pictures, kept[0])
    assert torch.equal(targets, kept[1])


@asking
def test_a_model_step_keeps_the_form_of_a_batch_and_the_model(case: tuple[str, CountermoveRow], plan: Plan) -> None:
    (step,) = reply(_spelled(case), plan).model_steps
    assert step.passes >= 0
    pictures, targets = batch_of(plan)
    kept, model = (pictures.clone(), targets.clone()), network()
    next(model.children()).eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    for given in (targets, plan.received.labels):  # after a batch step that mixes, and without one
        changed, named = step(model, pictures, given, generator=generator(0), progress=0.0)
        assert changed.shape == pictures.shape
        assert changed.dtype == torch.float32
        assert not changed.requires_grad
        assert float(changed.min()) >= 0
        assert float(changed.max()) <= 1
        assert not torch.equal(changed, pictures)
        assert torch.equal(named, given)
    assert torch.equal(pictures, kept[0])
    assert torch.equal(targets, kept[1])
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.is_grad_enabled()


def test_early_stopping_says_when(plan: Plan) -> None:
    assert reply("early-stopping", plan).stop == Stopping(patience=2, gain=0.01)
    assert reply("gray+early-stopping(patience=4, gain=0.05)", plan).stop == Stopping(patience=4, gain=0.05)


def test_settings_reach_the_batch_step(plan: Plan) -> None:
    assert reply("cutout(length=3)", plan).steps == (CutoutStep(length=3),)
    assert reply("cutmix(alpha=0.5, probability=1)", plan).steps == (CutMixStep(alpha=0.5, probability=1.0),)
    assert reply("mixup(alpha=2)", plan).steps == (MixUpStep(alpha=2.0, probability=0.5),)


def test_left_out_keeps_exactly_what_was_not_moved(plan: Plan) -> None:
    after = reply("left-out", plan)
    assert torch.equal(after.received.pictures, plan.received.pictures[~plan.moved])
    assert torch.equal(after.received.labels, plan.received.labels[~plan.moved])
    assert not after.moved.any()
    everything = Plan(received=plan.received, moved=torch.ones(24, dtype=torch.bool), recipe=plan.recipe)
    with pytest.raises(DataError, match=r"left-out needs pictures that were not moved"):
        reply("left-out", everything)


def test_no_other_reply_looks_at_who_moved_what(plan: Plan) -> None:
    turned = Plan(received=plan.received, moved=~plan.moved, recipe=plan.recipe)
    for case in CASES:
        if case[0] != "left-out" and case[1].kind != "own-data":
            first, second = (reply(_spelled(case), p) for p in (plan, turned))
            assert torch.equal(first.received.pictures, second.received.pictures)
            assert first.steps == second.steps
            assert first.model_steps == second.model_steps


def test_compositions_apply_in_their_order(plan: Plan) -> None:
    both, other = reply("gray+jpeg", plan), reply("jpeg+gray", plan)
    by_hand = reply("jpeg", reply("gray", plan))
    assert torch.equal(both.received.pictures, by_hand.received.pictures)
    assert not torch.equal(both.received.pictures, other.received.pictures)
    assert torch.equal(other.received.pictures[:, 0], other.received.pictures[:, 2])  # gray came last
    assert [type(step) for step in reply("cutout+gray+mixup", plan).steps] == [CutoutStep, MixUpStep]


def test_test_squeezes_of_a_composition_apply_in_its_order(plan: Plan) -> None:
    after = reply("gray(test=true)+jpeg+bit-depth(test=true)", plan)
    assert len(after.test_squeezes) == 2
    tested = plan.received.pictures
    for squeeze in after.test_squeezes:
        tested = squeeze_uint8(tested, squeeze)
    by_hand = reply("gray+bit-depth", plan).received.pictures
    assert torch.equal(tested, by_hand)
    assert not torch.equal(tested, reply("bit-depth+gray", plan).received.pictures)
