"""Replies: which items are read, what a detector makes of odds, what plans refuse."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.profiles.tiny_profiles import tiny

from countermove.errors import ConfigError
from countermove.game.arena import Rules
from countermove.profiles.arena import Profiles
from countermove.profiles.detecting import blank_detector, detect, evidence, fit_detector, scores
from countermove.profiles.methods import COUNTERMOVES, METHODS
from countermove.profiles.plan import Detection, Plan, kept, newest_dropped, outliers_dropped


@pytest.mark.parametrize(
    ("length", "share", "left"), [(10, 0.5, 5), (3, 0.5, 1), (1, 0.9, 1), (4, 0.0, 4), (8, 0.9, 1)]
)
def test_back_off_leaves_the_oldest(length: int, share: float, left: int) -> None:
    assert newest_dropped(torch.zeros(length, 2), share=share).tolist() == [True] * left + [False] * (length - left)


def test_outliers_are_the_farthest_from_the_median() -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [0.0, 1.0]])
    assert outliers_dropped(features, share=0.25).tolist() == [True, True, False, True]
    assert outliers_dropped(features, share=0.99).sum() == 1
    assert outliers_dropped(features[:1], share=0.5).tolist() == [True]


def test_filters_apply_one_after_the_other_and_leave_one_item() -> None:
    features = torch.arange(8.0)[:, None]
    plan = Plan()
    for spelled in ("back-off(share=0.5)", "back-off(share=0.5)"):
        plan = METHODS.compose("countermove", spelled).method(plan)
    filters = [one.filter for one in plan.filters]
    assert kept(torch.arange(8), features, filters).tolist() == [0, 1]
    assert kept(torch.tensor([5]), features, filters).tolist() == [5]


@given(st.lists(st.floats(-5, 5, allow_nan=False), min_size=2, max_size=9))
def test_evidence_is_the_best_time_of_a_pivot_by_brute_force(values: list[float]) -> None:
    odds = torch.tensor(values, dtype=torch.float64)
    own, added = -torch.nn.functional.softplus(odds), -torch.nn.functional.softplus(-odds)
    likelihood = {t: float(own[:t].sum() + added[t:].sum()) for t in range(1, len(odds))}
    found, onset = evidence(odds)
    best = max(likelihood.values())
    assert found == pytest.approx(best - float(own.sum()), abs=1e-9)
    assert likelihood[onset] == pytest.approx(best, abs=1e-9)


def test_one_item_has_no_evidence() -> None:
    assert evidence(torch.tensor([9.0])) == (-torch.inf, 1)


def test_a_detector_learns_what_was_added_and_when() -> None:
    source = torch.Generator().manual_seed(0)
    asked = Detection(known=(), epochs=60, lr=0.003, hidden=16, quantile=0.9, drop=True)

    def bags(count: int, additions: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        own = [torch.randn(6, 4, generator=source) for _ in range(count)]
        more = [torch.randn(additions, 4, generator=source) + 2.5 for _ in range(count)]
        mask = torch.arange(6 + additions) >= 6
        return [torch.cat(pair) for pair in zip(own, more, strict=True)], [mask] * count

    clean, none = bags(40, 0)
    moved, added = bags(40, 3)
    detector = blank_detector(4, 16, seed=0)
    assert float(detector.threshold) == torch.inf
    fit_detector(detector, [*clean, *moved], [*none, *added], clean, asked=asked, seed=0)
    fresh, (pivoted, true) = bags(30, 0)[0], bags(30, 3)
    found = scores(detect(detector, fresh), detect(detector, pivoted), true)
    assert found["detection_auc"] > 0.95
    assert found["addition_auc"] > 0.95
    assert found["onset_error"] < 1
    alarms = sum(e > float(detector.threshold) for e in detect(detector, clean).evidence)
    assert alarms <= 4


def test_every_reply_changes_the_plan_and_stands_beside_the_others() -> None:
    plans = {name: METHODS.compose("countermove", name).method(Plan()) for name in COUNTERMOVES}
    assert plans.pop("none") == Plan()
    assert all(plan != Plan() for plan in plans.values())
    arena = Profiles(Rules())
    for a, b in itertools.permutations(plans, 2):
        assert arena.plan(f"{a}+{b}") != Plan()


def test_what_changes_the_training_is_told_from_what_does_not() -> None:
    arena = Profiles(Rules())
    assert arena._through("back-off+jpeg(quality=30)") == "jpeg(quality=30)"
    assert arena._through("back-off(on=all)+outliers") == "back-off(on=all)"
    assert arena._through("detector") == "none"


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("outliers(share=1)", "share"),
        ("back-off(on=train)", "received"),
        ("mu-law(bits=1)", "bits"),
        ("low-pass(hertz=0)", "hertz"),
        ("self-training(confidence=2)", "confidence"),
        ("adversarial-training(share=0)", "share"),
        ("adversarial-training(known=[poisoned-training])", "refused"),
        ("detector(quantile=0)", "quantile"),
        ("jpeg(quality=0)", "quality"),
    ],
)
def test_settings_that_make_no_sense_are_refused(spelled: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = METHODS.compose("countermove", spelled).method


def test_squeezes_of_speech_keep_form_and_are_coarser() -> None:
    clips = tiny("speech").items
    for spelled in ("mu-law", "low-pass(hertz=400)"):
        (one,) = METHODS.compose("countermove", spelled).method(Plan()).squeezes
        assert one.medium == "speech"
        made = one.squeeze(clips, 4000)
        assert made.shape == clips.shape
        assert made.dtype == clips.dtype
        assert not torch.equal(made, clips)
        assert torch.equal(made, one.squeeze(clips, 4000))
