"""What each countermove does to a trainer's plan, and the parts that it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.faces.conftest import Projection
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.faces import play, remembered
from countermove.faces.artifacts import chosen_public
from countermove.faces.detector import blank_detector, detect, fit_detector, seen
from countermove.faces.extractor import (
    Embedder,
    Trained,
    embed,
    fit_embedder,
    public_examples,
    read_extractor,
    squared_distance,
)
from countermove.faces.gallery import Faces
from countermove.faces.losses import LOSSES, Head, Loss, fresh_head, margin_loss
from countermove.faces.methods import COUNTERMOVES, METHODS
from countermove.faces.purifying import blank_purifier, fit_purifier, purify
from countermove.faces.remembered import Remembered
from countermove.faces.trainer import Adaptation, Detection, Growing, Plan, Purification
from countermove.learning.augment import ModelStep
from countermove.learning.recipe import Recipe
from countermove.pixels.jpeg import jpeg
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import squeeze_uint8


def plan(spelled: str) -> Plan:
    made = Plan()
    for part in METHODS.compose("countermove", spelled).parts:
        made = part.method(made)
    return made


def without_squeezes(made: Plan) -> Plan:
    return replace(made, gallery=(), probes=())


# plans


PLANS = {
    "none": Plan(),
    "adaptive": Plan(adaptation=Adaptation(known=(), photos=10, epochs=None, lr=None)),
    "adaptive(epochs=3, known=[pgd, 'fawkes(mode=high)'], lr=0.01, photos=2)": Plan(
        adaptation=Adaptation(known=("pgd", "fawkes(mode=high)"), photos=2, epochs=3, lr=0.01)
    ),
    "adaptive+top-2": Plan(adaptation=Adaptation(known=(), photos=10, epochs=None, lr=None), mixture="top-2"),
    "adaptive+confidence(quantile=0.3)": Plan(
        adaptation=Adaptation(known=(), photos=10, epochs=None, lr=None), mixture="confidence", quantile=0.3
    ),
    "growing": Plan(growing=Growing(quantile=0.5, rounds=10)),
    "growing(quantile=0.8, rounds=2)+leaked": Plan(growing=Growing(quantile=0.8, rounds=2), leaked=1),
    "leaked": Plan(leaked=1),
    "leaked(photos=3)": Plan(leaked=3),
    "leaked(photos=3)+leaked": Plan(leaked=4),
    "purifier": Plan(
        purification=Purification(known=(), photos=10, epochs=10, lr=2e-3, width=32, weight=0.01, probes=True)
    ),
    "purifier(known=[lowkey], on=gallery, weight=0, width=8)": Plan(
        purification=Purification(known=("lowkey",), photos=10, epochs=10, lr=2e-3, width=8, weight=0, probes=False)
    ),
    "detector": Plan(detection=Detection(known=(), photos=10, epochs=8, lr=0.05, network="small-pooled", quality=None)),
    "detector(known=[opom], photos=4, quality=80)+leaked": Plan(
        detection=Detection(known=("opom",), photos=4, epochs=8, lr=0.05, network="small-pooled", quality=80), leaked=1
    ),
}
SQUEEZES = ["jpeg", "jpeg(quality=75)", "resize", "resize(factor=0.3)", "noise", "noise(std=0.2)"]


@pytest.mark.parametrize("spelled", PLANS)
def test_a_reply_changes_its_part_of_the_plan_and_nothing_else(spelled: str) -> None:
    assert plan(spelled) == PLANS[spelled]


def test_every_reply_is_tested_here() -> None:
    parts = [part.name for text in [*PLANS, *SQUEEZES] for part in METHODS.compose("countermove", text).parts]
    assert set(parts) == set(COUNTERMOVES)


@pytest.mark.parametrize("spelled", [*PLANS, *SQUEEZES])
def test_a_reply_is_spelled_and_read_back(spelled: str) -> None:
    first = METHODS.compose("countermove", spelled)
    assert METHODS.compose("countermove", first.spelling) == first


@pytest.mark.parametrize("spelled", SQUEEZES)
def test_squeezes_go_on_the_gallery_or_on_all(spelled: str) -> None:
    name, _, rest = spelled.partition("(")
    settings = rest.rstrip(")")
    only = f"{name}({settings + ', ' if settings else ''}on=gallery)"
    assert without_squeezes(plan(spelled)) == Plan()
    assert (len(plan(spelled).gallery), len(plan(spelled).probes)) == (1, 1)
    assert (len(plan(only).gallery), len(plan(only).probes)) == (1, 0)


def test_squeezes_are_applied_in_order(few_faces: Faces) -> None:
    made = plan("jpeg(quality=30)+resize(on=gallery)+adaptive")
    assert (len(made.gallery), len(made.probes)) == (2, 1)
    photos = few_faces.photos[:5]
    first, second = plan("jpeg(quality=30)").gallery[0], plan("resize").gallery[0]
    assert torch.equal(squeeze_uint8(photos, *made.gallery), to_uint8(second(first(to_float(photos)))))
    assert torch.equal(squeeze_uint8(photos, *made.probes), to_uint8(jpeg(to_float(photos), 30)))
    assert squeeze_uint8(photos) is photos


@pytest.mark.parametrize("spelled", SQUEEZES)
def test_a_squeezed_photo_is_8_bit_and_the_same_among_others(
    spelled: str, few_faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, squeezes = few_faces.photos[:9], plan(spelled).gallery
    done = squeeze_uint8(photos, *squeezes)
    assert done.dtype == torch.uint8
    assert done.shape == photos.shape
    assert (done != photos).flatten(1).any(1).all()
    for i in (0, 8):
        assert torch.equal(squeeze_uint8(photos[i : i + 1], *squeezes), done[i : i + 1])
    order = torch.randperm(9, generator=generator(0))
    assert torch.equal(squeeze_uint8(photos[order], *squeezes), done[order])
    monkeypatch.setattr("countermove.pixels.squeezes.SQUEEZE_CHUNK", 4)
    assert torch.equal(squeeze_uint8(photos, *squeezes), done)


def test_noise_has_its_deviation_and_resizing_loses_what_is_fine() -> None:
    flat = torch.full((2, 3, 64, 64), 0.5)
    added = plan("noise(std=0.05)").gallery[0](flat) - flat
    assert float(added.std()) == pytest.approx(0.05, rel=0.03)
    assert torch.equal(added[0], added[1]), "the same on every photo"
    fine = flat + 0.2 * (-1.0) ** torch.arange(64)
    left = plan("resize").gallery[0](fine)[:, :, 8:-8, 8:-8] - 0.5
    assert left.abs().max() < 0.05
    assert torch.allclose(plan("resize").gallery[0](flat), flat, atol=1e-5)


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("top-2", r"write adaptive\+top-2"),
        ("confidence", r"write adaptive\+confidence"),
        ("top-2+adaptive", r"write adaptive\+top-2"),
        ("confidence+adaptive", r"write adaptive\+confidence"),
        ("adaptive+top-2+confidence", "take one of them"),
        ("adaptive+confidence+top-2", "take one of them"),
        ("adaptive+adaptive(known=[pgd])", "stands twice"),
        ("purifier+purifier(width=8)", "stands twice"),
        ("detector+detector(known=[pgd])", "stands twice"),
        ("adaptive(known=['none'])", "name cloaks"),
        ("adaptive(known=[none])", "known"),
        ("adaptive(known=[gpd])", "pgd"),
        ("adaptive(known=['pgd+opom'])", "joins several"),
        ("purifier(known=['pgd(steps=0)'])", "steps = 0"),
        ("adaptive(photos=0)", "photos"),
        ("adaptive(lr=0)", "lr"),
        ("leaked(photos=0)", "photos = 0"),
        ("jpeg(quality=0)", "quality"),
        ("jpeg(on=probes)", "gallery"),
        ("resize(factor=1)", "factor = 1"),
        ("resize(on=new)", "gallery"),
        ("noise(std=0)", "std = 0"),
        ("noise(std=.nan)", "std"),
        ("purifier(width=0)", "width"),
        ("purifier(weight=-1)", "weight"),
        ("detector(quality=101)", "quality"),
        ("detector(network=small-poled)", "small-pooled"),
        ("adaptive+confidence(quantile=1)", "quantile = 1"),
    ],
)
def test_a_reply_that_cannot_be_is_refused(spelled: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        plan(spelled)


# whose photos


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.integers(0, 6))
def test_the_first_photos_of_everybody_leak(people: list[int], count: int) -> None:
    owner = torch.tensor(people)
    wanted = [people[:row].count(person) < count for row, person in enumerate(people)]
    ids = [f"{i:02d}" for i in range(len(owner))]
    assert play.first_by_id(ids, owner, count).tolist() == wanted
    order = torch.randperm(len(owner), generator=generator(0, "order")).tolist()
    shuffled = play.first_by_id([ids[i] for i in order], owner[order], count)
    assert shuffled.tolist() == [wanted[i] for i in order]


@pytest.mark.parametrize("photos", [1, 4, 6, 20])
def test_photos_of_the_public_are_chosen_by_id(photos: int, few_faces: Faces) -> None:
    rows = chosen_public(few_faces, photos)
    owners = few_faces.person[rows]
    public = few_faces.person[few_faces.public].unique()
    assert torch.equal(owners.unique(), public), "everybody of the public, and nobody else"
    assert torch.bincount(owners)[public].tolist() == [min(photos, 6)] * len(public)
    assert len(rows.unique()) == len(rows)
    more = chosen_public(few_faces, photos + 1)
    assert set(rows.tolist()) <= set(more.tolist())
    order = torch.randperm(len(few_faces.ids), generator=generator(0))
    shuffled = replace(
        few_faces,
        photos=few_faces.photos[order],
        person=few_faces.person[order],
        ids=tuple(few_faces.ids[i] for i in order.tolist()),
        test=few_faces.test[order],
    )
    again = chosen_public(shuffled, photos)
    assert {shuffled.ids[i] for i in again.tolist()} == {few_faces.ids[i] for i in rows.tolist()}


def test_two_halves_of_the_public_share_nobody_and_cover_everybody(few_faces: Faces) -> None:
    whole, people = public_examples(few_faces)
    (first, some), (second, others) = (public_examples(few_faces, half) for half in ("first", "second"))
    assert (some, others, people) == (4, 4, 8)

    def contents(photos: Tensor) -> set[bytes]:
        return {photo.numpy().tobytes() for photo in photos}

    assert contents(first.pictures) | contents(second.pictures) == contents(whole.pictures)
    assert not contents(first.pictures) & contents(second.pictures)
    assert contents(whole.pictures) == contents(few_faces.photos[few_faces.public])
    for examples, count in ((whole, people), (first, some), (second, others)):
        assert examples.labels.unique().tolist() == list(range(count))
        photos = contents(examples.pictures[examples.labels == 0])
        owners = {
            int(p)
            for photo, p in zip(few_faces.photos, few_faces.person, strict=True)
            if photo.numpy().tobytes() in photos
        }
        assert len(owners) == 1, "a label is a person"


def test_too_few_of_the_public_to_train_on_is_refused() -> None:
    faces = METHODS.compose("data", "planted-faces(movers=5, people=7, photos=4, side=16)").method()
    with pytest.raises(DataError, match=r"1 people are left.*lower movers"):
        public_examples(faces, "first")


# losses


def by_hand(loss: Loss, cosines: Tensor, labels: Tensor, scale: float, margin: float) -> float:
    total = 0.0
    for row, own in zip(cosines.tolist(), labels.tolist(), strict=True):
        if loss == "softmax":
            logits = row
        else:
            angle = math.acos(row[own])
            hard = row[own] - margin if loss == "cosface" else math.cos(angle + margin)
            logits = [scale * (hard if k == own else cosine) for k, cosine in enumerate(row)]
        total += math.log(sum(math.exp(value) for value in logits)) - logits[own]
    return total / len(labels)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("scale", "margin"), [(16.0, 0.2), (4.0, 0.5), (1.0, 0.0)])
def test_margins_are_those_of_a_loop(loss: Loss, scale: float, margin: float) -> None:
    source = generator(0, loss)
    cosines = 1.6 * torch.rand(7, 5, generator=source) - 0.8  # no angle beyond half a turn
    labels = torch.randint(5, (7,), generator=source)
    found = float(margin_loss(loss, scale=scale, margin=margin)(cosines, labels))
    assert found == pytest.approx(by_hand(loss, cosines, labels, scale, margin), rel=1e-5)


def test_without_a_margin_all_are_the_scaled_softmax() -> None:
    cosines, labels = torch.rand(6, 4, generator=generator(0)) - 0.5, torch.tensor([0, 1, 2, 3, 0, 1])
    plain = F.cross_entropy(8 * cosines, labels)
    for loss in ("arcface", "cosface"):
        assert torch.allclose(margin_loss(loss, scale=8, margin=0)(cosines, labels), plain, atol=1e-5)


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("loss", ["arcface", "cosface"])
def test_a_greater_angle_always_costs_more_also_beyond_half_a_turn(loss: Loss, margin: float) -> None:
    angles = torch.linspace(0.01, math.pi - 0.01, 400)
    cosines = torch.stack([angles.cos(), torch.zeros(400)], dim=1)
    harder = margin_loss(loss, scale=4, margin=margin)
    costs = torch.stack([harder(row[None], torch.tensor([0])) for row in cosines])
    assert (costs.diff() > 0).all()
    assert costs.diff().max() < 0.2, "there is no jump"


def test_the_gradient_of_a_margin_is_finite_at_the_ends() -> None:
    cosines = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    margin_loss("arcface", scale=16, margin=0.5)(cosines, torch.tensor([0, 0])).backward()
    assert cosines.grad is not None
    assert cosines.grad.isfinite().all()


def test_a_head_gives_logits_or_cosines() -> None:
    features = 5 * torch.randn(4, 6, generator=generator(0))
    plain, cosine = (fresh_head(3, 6, loss, 0, "test") for loss in ("softmax", "arcface"))
    assert torch.equal(plain.weight, cosine.weight)
    assert torch.allclose(plain(features), features @ plain.weight.T, atol=1e-5)
    for n in range(4):
        for k in range(3):
            wanted = F.cosine_similarity(features[n], cosine.weight[k], dim=0)
            assert torch.allclose(cosine(features)[n, k], wanted, atol=1e-5)
    assert torch.allclose(cosine(7 * features), cosine(features), atol=1e-5)
    assert not torch.equal(fresh_head(3, 6, "softmax", 1, "test").weight, plain.weight)
    assert not torch.equal(fresh_head(3, 6, "softmax", 0, "other").weight, plain.weight)


# training


def test_training_an_extractor_learns_whom_it_sees(few_faces: Faces) -> None:
    for loss in LOSSES:
        spelled = f"small(dim=16, epochs=8, loss={loss}, network='small-cnn(width=0.25)')"
        _, extractor = read_extractor(spelled, "test")
        embedder, log = extractor.fit(few_faces, seed=0, device="cpu", checkpoint=None)
        assert not embedder.training
        assert log.samples == 8 * len(few_faces.public)
        features = embed(embedder, few_faces.photos[few_faces.public])
        assert torch.allclose(features.norm(dim=1), torch.ones(len(features)), atol=1e-5)
        owner = few_faces.person[few_faces.public]
        near = features @ features.T
        alike = owner[:, None] == owner
        other = ~torch.eye(len(owner), dtype=torch.bool)
        assert near[alike & other].mean() > near[~alike].mean() + 0.1


class Caught(Exception):
    """Carries the model step out of a training."""

    def __init__(self, step: ModelStep) -> None:
        self.step = step


@pytest.fixture
def adversary(few_faces: Faces, monkeypatch: pytest.MonkeyPatch) -> ModelStep:
    """The step that an adversarially trained extractor hands to its training."""

    def catch(*_args: object, model_steps: tuple[ModelStep, ...] = (), **_settings: object) -> None:
        raise Caught(model_steps[0])

    extractor = read_extractor("small(adversary=6/255)", "test")[1]
    with monkeypatch.context() as patched:
        patched.setattr("countermove.faces.extractors.small.fit_embedder", catch)
        with pytest.raises(Caught) as caught:
            extractor.fit(few_faces, seed=0, device="cpu", checkpoint=None)
    return caught.value.step


def test_the_adversary_stays_in_its_ball_and_moves_features(
    adversary: ModelStep, few_faces: Faces, trained: Callable[[int], Embedder]
) -> None:
    embedder = trained(0)
    model = Trained(embedder, fresh_head(8, embedder.dim, "softmax", 0, "test")).train()
    photos, targets = to_float(few_faces.photos[:16]), torch.arange(16) % 8
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moved, same = adversary(model, photos, targets, generator=generator(0), progress=0.5)
    assert torch.equal(same, targets)
    assert (moved - photos).abs().max() <= 6 / 255 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    embedder.eval()
    signs = torch.randint(0, 2, photos.shape, generator=generator(1)) * 2.0 - 1
    noisy = (photos + 6 / 255 * signs).clamp(0, 1)
    with torch.no_grad():
        far, near = (squared_distance(embedder(p), embedder(photos)) for p in (moved, noisy))
    assert far.mean() > 3 * near.mean()
    assert adversary.passes == 4


def test_adversarial_passes_are_counted(few_faces: Faces) -> None:
    spelled = "small(adversary=4/255, dim=8, epochs=1, network='small-cnn(width=0.25)')"
    _, log = read_extractor(spelled, "test")[1].fit(few_faces, seed=0, device="cpu", checkpoint=None)
    assert log.samples == 5 * len(few_faces.public)


def test_other_seeds_and_builds_are_other_extractors(few_faces: Faces) -> None:
    def features(spelled: str, seed: int) -> Tensor:
        _, extractor = read_extractor(spelled, "test")
        return embed(extractor.fit(few_faces, seed=seed, device="cpu", checkpoint=None)[0], few_faces.photos[:3])

    tiny = "dim=8, epochs=1, network='small-cnn(width=0.25)'"
    first = features(f"small({tiny})", 0)
    assert torch.equal(features(f"small({tiny})", 0), first)
    assert not torch.equal(features(f"small({tiny})", 1), first)
    assert not torch.equal(features(f"small(build=1, {tiny})", 0), first)
    assert not torch.equal(features(f"small(augment=strong, {tiny})", 0), first)


def test_fine_tuning_on_cloaked_photos_brings_them_back(few_faces: Faces) -> None:
    """What the adaptive trainer does, against negatives in the place of cloaked photos."""
    _, extractor = read_extractor("small(dim=16, epochs=8, network='small-cnn(width=0.25)')", "test")
    examples, people = public_examples(few_faces)
    photos = few_faces.photos[few_faces.published]
    owner = few_faces.person[few_faces.published]

    def nearness(second: Tensor) -> float:
        """Return how much nearer cloaked photos are to clean ones of the same person than to those of others."""
        embedder, _ = extractor.fit(few_faces, seed=0, device="cpu", checkpoint=None)
        both = replace(
            examples,
            pictures=torch.cat([examples.pictures, second]),
            labels=torch.cat([examples.labels, examples.labels]),
        )
        log = fit_embedder(embedder, both, people, extractor=extractor, recipe=Recipe(epochs=15, lr=0.1), seed=1)
        assert log.samples == 15 * 2 * len(examples)
        found = embed(embedder.eval(), 255 - photos) @ embed(embedder, photos).T
        alike = owner[:, None] == owner
        return float(found[alike].mean() - found[~alike].mean())

    assert nearness(255 - examples.pictures) > nearness(examples.pictures) + 0.1


# purifying


def test_an_untrained_purifier_changes_nothing(few_faces: Faces) -> None:
    photos = to_float(few_faces.photos[:4])
    assert torch.equal(purify(photos, network=blank_purifier(8, seed=0), device="cpu"), photos)
    state = torch.get_rng_state()
    first, again, other = (next(blank_purifier(8, seed=seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_purifier_learns_to_take_a_pattern_away(few_faces: Faces, trained: Callable[[int], Embedder]) -> None:
    """Darker stripes on every cloaked photo, which are where they are on all of them."""
    stripes = torch.zeros(3, 24, 24, dtype=torch.int16)
    stripes[:, ::2] = 24
    cloak = lambda photos: (photos.to(torch.int16) - stripes).clamp(0, 255).to(torch.uint8)  # noqa: E731
    clean, held_out = few_faces.photos[few_faces.public], few_faces.photos[few_faces.published]
    asked = Purification(known=(), photos=10, epochs=40, lr=5e-3, width=8, weight=0.01, probes=True)
    network, embedder = blank_purifier(8, seed=0), trained(0)
    before = {name: tensor.clone() for name, tensor in embedder.state_dict().items()}
    passes = fit_purifier(
        network,
        embedder,
        torch.cat([clean, clean]),
        torch.cat([clean, cloak(clean)]),
        asked=asked,
        seed=0,
        device="cpu",
    )
    assert passes == 40 * 2 * len(clean)
    assert all(torch.equal(before[name], tensor) for name, tensor in embedder.state_dict().items())

    def wrong(photos: Tensor) -> float:
        return float((purify(to_float(photos), network=network, device="cpu") - to_float(held_out)).abs().mean())

    unpurified = float((to_float(cloak(held_out)) - to_float(held_out)).abs().mean())
    assert wrong(cloak(held_out)) < 0.6 * unpurified
    assert wrong(held_out) < 0.5 * unpurified, "clean photos are left alone"
    whole = purify(to_float(held_out), network=network, device="cpu")
    alone = purify(to_float(held_out[3:4]), network=network, device="cpu")
    assert torch.allclose(whole[3:4], alone, atol=1e-6)


# detecting


def detection(*, epochs: int = 6, quality: int | None = None) -> Detection:
    return Detection(known=(), photos=10, epochs=epochs, lr=0.05, network="small-pooled(width=0.25)", quality=quality)


def obvious(photos: Tensor) -> Tensor:
    """Return photos with a checkerboard on them."""
    board = (torch.arange(24)[:, None] + torch.arange(24)) % 2 * 2 - 1
    return (photos.to(torch.int16) + 20 * board).clamp(0, 255).to(torch.uint8)


def test_a_detector_sees_an_obvious_cloak_on_people_it_never_saw(few_faces: Faces) -> None:
    train, judged = few_faces.photos[few_faces.public], few_faces.photos[few_faces.published]
    network, asked = blank_detector("small-pooled(width=0.25)", 24, seed=0), detection()
    blind = detect(network, judged, judged, asked=asked, device="cpu")
    assert blind["detector_auc"] == 0.5
    passes = fit_detector(network, train, obvious(train), asked=asked, seed=0, device="cpu")
    assert passes == 6 * 2 * len(train)
    found = detect(network, judged, obvious(judged), asked=asked, device="cpu")
    assert found["detector_auc"] > 0.95
    assert found["detector_recall"] - found["detector_false_alarms"] > 0.5
    assert set(found) == {"detector_auc", "detector_recall", "detector_false_alarms"}


def test_both_classes_go_through_the_same_files(few_faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = few_faces.photos[:6]
    assert torch.equal(seen(photos, detection()), photos)
    assert torch.equal(seen(photos, detection(quality=40)), to_uint8(jpeg(to_float(photos), 40)))
    given: list[Tensor] = []

    def watched(photos: Tensor, asked: Detection) -> Tensor:
        given.append(photos)
        return seen(photos, asked)

    monkeypatch.setattr("countermove.faces.detector.seen", watched)
    asked, network = detection(epochs=1, quality=40), blank_detector("small-pooled(width=0.25)", 24, seed=0)
    fit_detector(network, photos, 255 - photos, asked=asked, seed=0, device="cpu")
    detect(network, photos, 255 - photos, asked=asked, device="cpu")
    assert [len(part) for part in given] == [12, 6, 6]


# remembering


class Asked(Projection):
    """An extractor that counts the photos it was asked about."""

    def __init__(self, side: int, seed: int = 0) -> None:
        super().__init__(side, seed=seed)
        self.photos = 0

    def raw(self, photos: Tensor) -> Tensor:
        self.photos += len(photos)
        return super().raw(photos)


def test_remembered_features_are_those_of_embedding(few_faces: Faces) -> None:
    memory, embedder, photos = Remembered(), Asked(24), few_faces.photos[:10]
    wanted = embed(Projection(24), photos)
    assert torch.allclose(memory.embed("a", embedder, photos), wanted, atol=1e-6)
    assert embedder.photos == memory.computed == 10
    order = torch.tensor([3, 3, 9, 0])
    assert torch.allclose(memory.embed("a", embedder, photos[order]), wanted[order], atol=1e-6)
    assert embedder.photos == memory.computed == 10
    assert memory.asked == 14
    mixed = torch.cat([photos[:2], 255 - photos[:2], 255 - photos[:1]])
    assert torch.allclose(memory.embed("a", embedder, mixed), embed(Projection(24), mixed), atol=1e-6)
    assert embedder.photos == memory.computed == 12, "a photo that comes twice is computed once"


def test_extractors_are_never_mixed(few_faces: Faces) -> None:
    memory, photos = Remembered(), few_faces.photos[:4]
    first, second = Asked(24), Asked(24, seed=1)
    a, b = memory.embed("a", first, photos), memory.embed("b", second, photos)
    assert not torch.allclose(a, b, atol=1e-2)
    assert torch.equal(memory.embed("a", second, photos), a)
    assert torch.equal(memory.embed("b", first, photos), b)
    assert (first.photos, second.photos) == (4, 4)


def test_the_oldest_features_are_forgotten_first(few_faces: Faces) -> None:
    memory, embedder, photos = Remembered(most=5), Asked(24), few_faces.photos[:8]
    memory.embed("a", embedder, photos[:4])
    memory.embed("a", embedder, photos[4:6])  # photo 0 is forgotten
    assert embedder.photos == 6
    memory.embed("a", embedder, photos[1:6])
    assert embedder.photos == 6
    memory.embed("a", embedder, photos[:1])
    assert embedder.photos == 7
    assert torch.allclose(memory.embed("a", embedder, photos), embed(Projection(24), photos), atol=1e-6)
    assert len(memory._known) == 5


def test_photos_that_differ_in_one_level_are_two(few_faces: Faces) -> None:
    memory, embedder = Remembered(), Asked(24)
    photos = few_faces.photos[:1].repeat(2, 1, 1, 1)
    photos[1, 2, 23, 23] ^= 1
    memory.embed("a", embedder, photos)
    assert memory.computed == 2
    assert remembered.MOST >= 100_000
    flat = photos[:1].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    memory.embed("a", embedder, flat)
    assert memory.computed == 2, "how a photo lies in memory does not matter"


def test_a_fresh_head_is_thrown_away_and_not_part_of_the_extractor(few_faces: Faces) -> None:
    _, extractor = read_extractor("small(dim=16, network='small-cnn(width=0.25)')", "test")
    assert not any(isinstance(module, Head) for module in extractor.blank(few_faces, seed=0).modules())
    assert isinstance(extractor.blank(few_faces, seed=0), nn.Module)
