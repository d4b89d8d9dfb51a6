"""Detection: the metrics against brute force, the folds, and that planted shortcuts are found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_uint8
from countermove.unlearnable.countermeasure import Plan, ReplyContext
from countermove.unlearnable.countermeasures.detect_bias import DetectBias, ShiftedInTraining
from countermove.unlearnable.countermeasures.detect_linear import DetectLinear
from countermove.unlearnable.countermeasures.detect_network import DetectNetwork
from countermove.unlearnable.detection import (
    HeldOut,
    dataset_auc,
    discardable,
    folds_of,
    held_out,
    linear,
    picture_metrics,
    plain_recipe,
    react,
)
from countermove.unlearnable.methods import METHODS

DETECTORS = {
    "linear": DetectLinear(folds=3),
    "network": DetectNetwork(hidden=32, folds=3, epochs=40),
    "bias": DetectBias(model="small-cnn(width=0.2)", shift=0.1, folds=2, epochs=30),
}


def plan_of(moved: Tensor, *, classes: int = 3, strength: float = 24 / 255) -> Plan:
    """Return smooth random pictures that tell nothing of their labels, with class-wise noise where they are moved."""
    n = len(moved)
    coarse = torch.rand(n, 3, 3, 3, generator=generator(0, "scene"))
    scenes = 0.25 + 0.5 * torch.nn.functional.interpolate(coarse, size=8, mode="bilinear")
    noise = torch.randn(classes, 3, 8, 8, generator=generator(0, "noise")).sign() * strength
    labels = torch.arange(n) % classes
    pictures = scenes + torch.where(moved[:, None, None, None], noise[labels], 0)
    received = Examples(pictures=to_uint8(pictures), labels=labels)
    return Plan(received=received, moved=moved, recipe=Recipe(), classes=("a", "b", "c")[:classes])


def share_moved(n: int, share: float) -> Tensor:
    return torch.rand(n, generator=generator(5)) < share


pictures_of = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.booleans(), st.booleans()), min_size=1, max_size=12
)


@given(pictures_of)
def test_picture_metrics_by_counting(rows: list[tuple[float, bool, bool]]) -> None:
    suspicion, flagged, moved = (torch.tensor(column) for column in zip(*rows, strict=True))
    metrics = picture_metrics(suspicion, flagged, moved)
    hits = sum(f and m for _, f, m in rows)
    expected = {}
    if any(f for _, f, _ in rows):
        expected["detection_precision"] = hits / sum(f for _, f, _ in rows)
    if any(m for _, _, m in rows):
        expected["detection_recall"] = hits / sum(m for _, _, m in rows)
    pairs = [(a, b) for a, _, m in rows if m for b, _, other in rows if not other]
    if pairs:
        expected["detection_auc"] = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert metrics == pytest.approx(expected)


def test_metrics_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="2, 2 and 3 pictures"):
        picture_metrics(torch.zeros(2), torch.zeros(2, dtype=torch.bool), torch.zeros(3, dtype=torch.bool))
    with pytest.raises(DataError, match="1 scores and 2 data sets"):
        dataset_auc([0.5], [True, False])


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.3, 0.9]), st.booleans()), max_size=8))
def test_dataset_auc_by_counting(rows: list[tuple[float, bool]]) -> None:
    pairs = [(a, b) for a, poisoned in rows if poisoned for b, other in rows if not other]
    found = dataset_auc([score for score, _ in rows], [poisoned for _, poisoned in rows])
    if not pairs:
        assert found is None
    else:
        assert found == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))


@given(st.lists(st.integers(0, 3), min_size=6, max_size=30), st.integers(2, 5))
def test_folds_are_even_and_leave_something_of_every_class(labels: list[int], folds: int) -> None:
    named = torch.tensor(labels)
    if (torch.bincount(named) == 1).any():
        with pytest.raises(DataError, match="single picture"):
            folds_of(named, folds, generator(0))
        return
    fold = folds_of(named, folds, generator(0))
    sizes = torch.bincount(fold, minlength=folds)
    assert int(sizes.max() - sizes.min()) <= 1
    for label in named.unique():
        within = torch.bincount(fold[named == label], minlength=folds)
        assert int(within.max() - within.min()) <= 1
        assert int((within > 0).sum()) >= 2, "no class is judged by a model that never saw it"


def test_more_folds_than_pictures_are_refused() -> None:
    with pytest.raises(DataError, match="set folds = 4"):
        folds_of(torch.tensor([0, 0, 1, 1]), 5, generator(0))


def test_no_picture_is_judged_by_a_model_that_saw_it() -> None:
    """Random labels on random pictures: a model that saw them would know them by heart."""
    labels = torch.randint(0, 2, (60,), generator=generator(4))
    pictures = torch.randint(0, 256, (60, 3, 8, 8), generator=generator(3), dtype=torch.uint8)
    found = held_out(Examples(pictures=pictures, labels=labels), linear, plain_recipe(30), folds=5, seed=0)
    assert found.accuracy < 0.7
    assert found.samples == 30 * 4 * 60
    assert float(found.confidence.min()) >= 0
    assert float(found.confidence.max()) <= 1


@pytest.mark.parametrize("name", DETECTORS)
def test_a_planted_shortcut_is_found_and_clean_pictures_are_left_alone(name: str) -> None:
    facts: dict[str, float] = {}
    context = ReplyContext(seed=0, facts=facts)
    clean = plan_of(torch.zeros(180, dtype=torch.bool))
    after = DETECTORS[name](clean, context=context)
    assert facts["detected"] == 0
    assert facts["detection_score"] < 0.6
    assert after.received is clean.received
    assert after.flagged is not None
    assert not after.flagged.any()
    after = DETECTORS[name](plan_of(torch.ones(180, dtype=torch.bool)), context=context)
    assert facts["detected"] == 1
    assert facts["detection_score"] > 0.7
    assert after.flagged is not None
    assert facts["detection_flagged"] == pytest.approx(float(after.flagged.float().mean()))
    assert after.samples > 0


def test_moved_pictures_are_told_from_others_and_discarded() -> None:
    plan = plan_of(share_moved(600, 0.7))
    context = ReplyContext(seed=0)
    after = DetectLinear(folds=3, threshold=0.6)(plan, context=context)
    assert after.suspicion is not None
    assert after.flagged is not None
    metrics = picture_metrics(after.suspicion, after.flagged, plan.moved)
    assert metrics["detection_auc"] > 0.8
    assert metrics["detection_precision"] > 0.8
    assert metrics["detection_recall"] > 0.8
    kept = ~after.flagged
    assert torch.equal(after.received.pictures, plan.received.pictures[kept])
    assert torch.equal(after.received.labels, plan.received.labels[kept])
    assert torch.equal(after.moved, plan.moved[kept])
    assert len(after.suspicion) == len(after.flagged) == 600
    assert context.facts["detection_kept"] == 0
    assert context.facts["detection_treated"] == 0


def test_flagged_pictures_can_be_squeezed_where_they_are() -> None:
    plan = plan_of(share_moved(300, 0.7))
    context = ReplyContext(seed=0)
    after = DetectLinear(folds=3, threshold=0.6, then="squeeze", treat="gray")(plan, context=context)
    assert after.flagged is not None
    gray = METHODS.compose("countermove", "gray").method(plan, context=context).received.pictures
    assert torch.equal(after.received.pictures[after.flagged], gray[after.flagged])
    assert torch.equal(after.received.pictures[~after.flagged], plan.received.pictures[~after.flagged])
    assert context.facts["detection_treated"] == 1


def test_where_all_are_flagged_they_are_treated() -> None:
    plan = plan_of(torch.ones(180, dtype=torch.bool), strength=80 / 255)
    context = ReplyContext(seed=0)
    after = DetectLinear(folds=3, epochs=30, confidence=0.01)(plan, context=context)
    assert len(after.received) == 180
    assert context.facts["detection_flagged"] == 1
    assert context.facts["detection_treated"] == 1
    assert not torch.equal(after.received.pictures, plan.received.pictures)


def test_two_of_every_class_are_kept_the_least_suspicious() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2])
    flagged = torch.tensor([1, 1, 1, 1, 1, 0, 1, 0, 0], dtype=torch.bool)
    suspicion = torch.tensor([0.9, 0.6, 0.8, 0.7, 0.95, 0.1, 0.9, 0.2, 0.1])
    gone = discardable(flagged, suspicion, labels)
    assert gone.tolist() == [True, False, True, False, True, False, False, False, False]


def test_the_number_of_kept_pictures_is_said() -> None:
    plan, context = plan_of(torch.ones(12, dtype=torch.bool)), ReplyContext(seed=0)
    confidence = torch.where(plan.received.labels == 2, 0.1, 0.9) + torch.arange(12) / 1000
    found = HeldOut(confidence=confidence, right=confidence > 0.5, samples=7)
    after = react(plan, found, DetectLinear(threshold=0.6), context=context)
    # All of the classes 0 and 1 are flagged; pictures 0, 3 and 1, 4 are the least suspicious of theirs.
    kept = torch.tensor([0, 1, 2, 3, 4, 5, 8, 11])
    assert torch.equal(after.received.pictures, plan.received.pictures[kept])
    assert torch.equal(after.received.labels, plan.received.labels[kept])
    assert context.facts["detection_kept"] == 4
    assert context.facts["detection_flagged"] == pytest.approx(8 / 12)
    assert context.facts["detection_treated"] == 0
    assert after.samples == 7


def test_pictures_are_shifted_in_training_only() -> None:
    shifted = ShiftedInTraining(torch.nn.Identity(), -0.5)
    pictures = torch.rand(2, 3, 4, 4, generator=generator(0))
    assert torch.equal(shifted.train()(pictures), pictures - 0.5)
    assert torch.equal(shifted.eval()(pictures), pictures)


@pytest.mark.parametrize("treat", ["cutout", "left-out", "gray(train=false, test=true)", "gray+mixup"])
def test_a_treatment_that_squeezes_nothing_is_refused(treat: str) -> None:
    with pytest.raises(ConfigError, match="does not squeeze what is received"):
        DetectLinear(treat=treat)


def test_an_unseen_label_in_between_is_no_problem() -> None:
    plan = plan_of(torch.ones(60, dtype=torch.bool), classes=2)
    labels = plan.received.labels * 4  # classes 0 and 4 of five
    plan = replace(plan, received=replace(plan.received, labels=labels))
    after = DetectLinear(folds=2)(plan, context=ReplyContext(seed=0))
    assert after.suspicion is not None
    assert after.suspicion.isfinite().all()
