"""All movers' worlds at once, against refitting for every mover and against loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.faces import naming
from countermove.faces.extractor import Embedder, read_extractor
from countermove.faces.gallery import Faces
from countermove.faces.methods import METHODS, MODELS
from countermove.faces.naming import Named, Views, best_by_person, either, fall_back, nearest, nearest_other
from countermove.faces.recogniser import Material, Photos
from countermove.pixels.randomness import generator

CLOSE = 1e-5
"""Similarities nearer than that are a tie for float32."""


def random_views(movers: int, photos: int, tests: int, dim: int, seed: int, spread: float = 1.0) -> Views:
    """Return features around a direction for every person, moved ones somewhere else; owners in no order."""
    source = generator(seed, "views")
    owner = torch.cat([torch.arange(movers), torch.randint(movers, (movers * (photos - 1),), generator=source)])
    owner = owner[torch.randperm(len(owner), generator=source)]
    tested = torch.randint(movers, (tests,), generator=source)
    centre = torch.randn(movers, dim, generator=source)

    def around(people: Tensor) -> Tensor:
        return F.normalize(centre[people] + spread * torch.randn(len(people), dim, generator=source))

    moved = around((owner + torch.randint(movers, owner.shape, generator=source)) % movers)
    return Views(clean=around(owner), moved=moved, owner=owner, tests=around(tested), tested=tested)


views = st.builds(
    random_views,
    movers=st.integers(2, 9),
    photos=st.integers(1, 5),
    tests=st.integers(1, 12),
    dim=st.sampled_from([4, 8, 33]),
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0.3, 1.0, 3.0]),
)


def refitted(given: Views, mover: int) -> Tensor:
    """Return the names that scikit-learn's one neighbour gives in a world."""
    model = KNeighborsClassifier(1).fit(given.world(mover).double().numpy(), given.owner.numpy())
    return torch.from_numpy(np.asarray(model.predict(given.tests.double().numpy())))


def no_tie(given: Views, mover: int) -> Tensor:
    """Return for which tests the best person of a world is clearly ahead of the second best."""
    found = given.tests.double() @ given.world(mover).double().T
    best = torch.stack([found[:, given.owner == p].amax(1) for p in range(given.movers)], dim=1)
    top = best.topk(2, dim=1).values
    return top[:, 0] - top[:, 1] > CLOSE


def test_every_recogniser_is_tested_here() -> None:
    assert set(MODELS) == {"nearest", "linear", "end-to-end"}


@given(views)
def test_names_are_those_of_refitting_the_neighbours_for_every_mover(given: Views) -> None:
    named = nearest(given)
    for mover in range(given.movers):
        sure = no_tie(given, mover)
        assert torch.equal(named.worlds[sure, mover], refitted(given, mover)[sure])
        nearest_one = (given.tests.double() @ given.world(mover).double().T).amax(1)
        assert torch.allclose(named.similarity[:, mover].double(), nearest_one, atol=CLOSE)
    sure = no_tie(given, -1)
    assert torch.equal(named.clean[sure], refitted(given, -1)[sure])


@pytest.mark.parametrize("tests_at_once", [1, 3, 7, 100])
def test_tests_are_taken_in_portions_without_a_trace(tests_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = random_views(7, 4, 20, 16, 0)
    whole = nearest(given)
    monkeypatch.setattr(naming, "TESTS_AT_ONCE", tests_at_once)
    again = nearest(given)
    assert torch.equal(again.worlds, whole.worlds)
    assert torch.equal(again.clean, whole.clean)
    assert torch.allclose(again.similarity, whole.similarity, atol=1e-6)
    for mover in range(given.movers):
        assert torch.equal(again.worlds[:, mover], refitted(given, mover))


def test_more_tests_than_are_taken_at_once() -> None:
    given = random_views(5, 3, naming.TESTS_AT_ONCE + 50, 16, 1)
    named = nearest(given)
    for mover in (-1, 0, 4):
        ours = named.clean if mover < 0 else named.worlds[:, mover]
        sure = no_tie(given, mover)
        assert sure.float().mean() > 0.99
        assert torch.equal(ours[sure], refitted(given, mover)[sure])


@st.composite
def tied_views(draw: st.DrawFn) -> Views:
    """Features of four halves and minus halves: products are exact, and ties are many."""
    movers, extra, tests = draw(st.integers(2, 5)), draw(st.integers(0, 5)), draw(st.integers(1, 5))
    owner = [*range(movers), *draw(st.lists(st.integers(0, movers - 1), min_size=extra, max_size=extra))]
    feature = st.lists(st.sampled_from([-0.5, 0.5]), min_size=4, max_size=4)

    def several(count: int) -> Tensor:
        return torch.tensor(draw(st.lists(feature, min_size=count, max_size=count)))

    owners = torch.tensor(draw(st.permutations(owner)))
    return Views(
        clean=several(len(owner)),
        moved=several(len(owner)),
        owner=owners,
        tests=several(tests),
        tested=torch.zeros(tests, dtype=torch.int64),
    )


@given(tied_views())
def test_of_people_who_are_as_near_the_earliest_is_named(given: Views) -> None:
    named = nearest(given)
    worlds = [(named.clean, named.sure, -1), *zip(named.worlds.T, named.similarity.T, range(given.movers), strict=True)]
    for names, similarity, mover in worlds:
        by_person = best_by_person(given.tests, given.world(mover), given.owner, given.movers)
        assert torch.equal(similarity, by_person.amax(1))
        assert torch.equal(names, by_person.argmax(1)), "the earliest of those who are as near"


@given(tied_views())
def test_who_publishes_photos_as_they_are_is_named_as_if_nobody_moved(given: Views) -> None:
    honest = replace(given, moved=given.clean)
    named = nearest(honest)
    assert torch.equal(named.worlds, named.clean[:, None].expand_as(named.worlds))


@given(views)
def test_a_world_holds_one_movers_changed_photos(given: Views) -> None:
    for mover in range(-1, given.movers):
        world = given.world(mover)
        for row, owner in enumerate(given.owner.tolist()):
            assert torch.equal(world[row], (given.moved if owner == mover else given.clean)[row])


@given(views)
def test_the_best_of_a_person_is_that_of_a_loop(given: Views) -> None:
    found = best_by_person(given.tests, given.clean, given.owner, given.movers)
    for t, test in enumerate(given.tests):
        for person in range(given.movers):
            own = [float(test @ photo) for photo in given.clean[given.owner == person]]
            assert float(found[t, person]) == pytest.approx(max(own), abs=1e-5)


@given(views)
def test_the_nearest_other_photo_is_that_of_a_loop(given: Views) -> None:
    found = nearest_other(given)
    for i, photo in enumerate(given.clean):
        others = [float(photo @ other) for j, other in enumerate(given.clean) if j != i]
        assert float(found[i]) == pytest.approx(max(others), abs=1e-5)


@st.composite
def two_recognisers(draw: st.DrawFn) -> tuple[Named, Named, Tensor]:
    tests, movers = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    names = st.integers(0, movers - 1)

    def whole(count: int) -> Tensor:
        return torch.tensor(draw(st.lists(names, min_size=count, max_size=count)))

    def share(count: int) -> Tensor:
        return torch.tensor(draw(st.lists(st.sampled_from([0.2, 0.5, 0.8]), min_size=count, max_size=count)))

    def one() -> Named:
        return Named(
            worlds=whole(tests * movers).view(tests, movers),
            similarity=share(tests * movers).view(tests, movers),
            clean=whole(tests),
            sure=share(tests),
        )

    return one(), one(), whole(tests)


@given(two_recognisers())
def test_one_of_two_names_is_enough(case: tuple[Named, Named, Tensor]) -> None:
    first, second, tested = case
    named = either(first, second, tested)
    for t, truth in enumerate(tested.tolist()):
        for m in range(first.worlds.shape[1]):
            two = [int(first.worlds[t, m]), int(second.worlds[t, m])]
            assert int(named.worlds[t, m]) == (truth if truth in two else two[0])
        two = [int(first.clean[t]), int(second.clean[t])]
        assert int(named.clean[t]) == (truth if truth in two else two[0])


@given(two_recognisers(), st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.9]))
def test_the_second_is_asked_where_the_first_is_not_sure(case: tuple[Named, Named, Tensor], threshold: float) -> None:
    first, second, _ = case
    level = float(torch.tensor(threshold))
    named = fall_back(first, second, level)
    for t in range(len(first.clean)):
        for m in range(first.worlds.shape[1]):
            asked = first if float(first.similarity[t, m]) >= level else second
            assert int(named.worlds[t, m]) == int(asked.worlds[t, m])
        asked = first if float(first.sure[t]) >= level else second
        assert int(named.clean[t]) == int(asked.clean[t])
    assert torch.equal(named.similarity, first.similarity)


@pytest.mark.parametrize("which", ["clean", "moved", "tests"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_no_numbers_are_refused(which: str, value: float) -> None:
    given = random_views(3, 2, 4, 8, 0)
    spoilt = getattr(given, which).clone()
    spoilt[1, 2] = value
    with pytest.raises(DataError, match="not finite; check its weights"):
        replace(given, **{which: spoilt})


def material(given: Views, **changes: Any) -> Material:
    """Return a recogniser's material whose photos nobody looks at."""
    blank = torch.zeros(len(given.owner), 3, 8, 8, dtype=torch.uint8)
    photos = Photos(clean=blank, moved=blank, tests=blank[: len(given.tests)])
    spoken: dict[str, Any] = {"photos": photos, "copy": lambda: pytest.fail("asked for a copy"), "seed": 0}
    return Material(views=given, extractor=read_extractor("plain", "test")[1], **{**spoken, **changes})


def test_nearest_as_a_model_is_nearest() -> None:
    given = random_views(4, 3, 10, 8, 0)
    found = METHODS.compose("model", "nearest").method.recognise(material(given))
    assert torch.equal(found.named.worlds, nearest(given).worlds)
    assert (found.samples, found.parameters) == (0, 0)


SHARE = 0.01
"""Of the names, how many may differ: L-BFGS stops at a gradient of 1e-4, a little beside the solution."""


@pytest.mark.parametrize("movers", [2, 6])
@pytest.mark.parametrize("c", [1.0, 0.05])
def test_a_linear_classifier_names_as_one_fitted_afresh_in_every_world(movers: int, c: float) -> None:
    given = random_views(movers, 6, 200, 12, 3, spread=2.0)
    found = METHODS.compose("model", f"linear(c={c})").method.recognise(material(given))
    differ = []
    for mover in range(-1, movers):
        fresh = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
        fresh.fit(given.world(mover).double().numpy(), given.owner.numpy())
        names = torch.from_numpy(fresh.predict(given.tests.double().numpy()))
        chances = torch.from_numpy(fresh.predict_proba(given.tests.double().numpy())).amax(1).float()
        ours = found.named.clean if mover < 0 else found.named.worlds[:, mover]
        sure = found.named.sure if mover < 0 else found.named.similarity[:, mover]
        differ.append(float((ours != names).double().mean()))
        assert torch.allclose(sure, chances, atol=0.02)
    assert max(differ) <= SHARE
    assert found.parameters == (1 if movers == 2 else movers) * 13
    assert (found.named.worlds != found.named.clean[:, None]).any(), "no world differs: nothing was tested"


@pytest.fixture
def gallery(few_faces: Faces, trained: Callable[[int], Embedder]) -> Material:
    """The movers' photos; what they publish when they move are other people's."""
    clean, tests = few_faces.photos[few_faces.published], few_faces.photos[few_faces.tested]
    owner = few_faces.number[few_faces.person[few_faces.published]]
    zeros = torch.zeros(1, 16)
    given = Views(
        clean=zeros.expand(len(clean), 16),
        moved=zeros.expand(len(clean), 16),
        owner=owner,
        tests=zeros.expand(len(tests), 16),
        tested=few_faces.number[few_faces.person[few_faces.tested]],
    )
    moved = few_faces.photos[few_faces.public][: len(clean)]

    def copy() -> Embedder:
        _, extractor = read_extractor("small(dim=16, epochs=4, network='small-cnn(width=0.25)')", "test")
        embedder = extractor.blank(few_faces, seed=0)
        embedder.load_state_dict(trained(0).state_dict())
        return embedder

    return material(given, photos=Photos(clean=clean, moved=moved, tests=tests), copy=copy)


def groups(movers: int, together: int, seed: int) -> list[list[int]]:
    order = torch.randperm(movers, generator=generator(seed, "who moves together"))
    return [group.tolist() for group in order.split(together)]


END = "end-to-end(epochs=2, together={})"


def test_a_movers_world_differs_through_their_group_alone(gallery: Material) -> None:
    method = METHODS.compose("model", END.format(2)).method
    first = method.recognise(gallery)
    inside, outside = groups(4, 2, 0)
    moved = gallery.photos.moved.clone()
    theirs = torch.isin(gallery.views.owner, torch.tensor(outside))
    moved[theirs] = moved[theirs].flip(3) // 2
    second = method.recognise(replace(gallery, photos=replace(gallery.photos, moved=moved)))
    assert torch.equal(first.named.clean, second.named.clean)
    assert torch.equal(first.named.similarity[:, inside], second.named.similarity[:, inside])
    assert torch.equal(first.named.worlds[:, inside], second.named.worlds[:, inside])
    assert not torch.equal(first.named.similarity[:, outside], second.named.similarity[:, outside])
    for group in (inside, outside):
        assert torch.equal(first.named.worlds[:, group[:1]].expand(-1, 2), first.named.worlds[:, group])
    assert first.samples == 3 * 2 * len(gallery.views.owner)
    assert first.parameters == 4 * 16


def test_alone_in_a_training_everybody_elses_photos_are_clean(gallery: Material) -> None:
    alone = METHODS.compose("model", END.format(1)).method.recognise(gallery)
    for mover in (0, 3):
        own = (gallery.views.owner == mover)[:, None, None, None]
        moved = torch.where(own, gallery.photos.moved, gallery.photos.clean)
        only = replace(gallery, photos=replace(gallery.photos, moved=moved))
        together = METHODS.compose("model", END.format(4)).method.recognise(only)
        assert torch.equal(together.named.similarity[:, mover], alone.named.similarity[:, mover])
        assert torch.equal(together.named.worlds[:, mover], alone.named.worlds[:, mover])


def test_where_nobody_moves_all_trainings_are_the_clean_one(gallery: Material) -> None:
    honest = replace(gallery, photos=replace(gallery.photos, moved=gallery.photos.clean))
    named = METHODS.compose("model", END.format(2)).method.recognise(honest).named
    assert torch.equal(named.worlds, named.clean[:, None].expand_as(named.worlds))


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("nearest(extractor=plane)", "plain"),
        ("nearest(extractor=target)", "no extractor"),
        ("nearest(extractor='small(dim=0)')", "dim"),
        ("nearest(extractor='small(network=small-cmn)')", "small-cnn"),
        ("linear(c=0)", "c = 0"),
        ("linear(most=0)", "most = 0"),
        ("end-to-end(together=0)", "together"),
        ("end-to-end(epochs=0)", "epochs"),
        ("end-to-end(lr=-1)", "lr"),
    ],
)
def test_bad_settings_of_a_recogniser_are_refused(spelled: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        _ = METHODS.compose("model", spelled).method
