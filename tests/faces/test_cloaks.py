"""What every cloak must keep, whoever wrote it; then what each of them is for."""

from __future__ import annotations

import dataclasses
import pickle
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from tests.faces.conftest import Projection
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.faces.artifacts import cloak_and_round
from countermove.faces.cloak import CloakContext, Meter
from countermove.faces.cloaks import fawkes
from countermove.faces.crafting import Adadelta, Dssim, from_tanh, to_tanh
from countermove.faces.extractor import embed
from countermove.faces.methods import METHODS, MOVES
from countermove.faces.perceptual import perceptual_distance
from countermove.game.methods import load
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator, per_sample
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import gaussian
from countermove.pixels.ssim import ssim


@dataclass(frozen=True)
class CloakRow:
    """A cloak with settings.

    random:    another seed gives another cloak.
    by_person: what becomes of a photo depends on the owner's others.
    steady:    signs and gains damp what rounding does; Adadelta's first steps amplify it.
    ours:      there is no paper.
    """

    settings: str = ""
    random: bool = True
    by_person: bool = False
    steady: bool = True
    ours: bool = False


TURN = "cloaks=['opom(steps=2)', 'fawkes(mode=low, steps=4)', none, 'pgd(extractors=[plain, margin], steps=2)']"
ROWS: dict[str, list[CloakRow]] = {
    "none": [CloakRow(random=False, ours=True)],
    "random-noise": [CloakRow(ours=True), CloakRow("eps=3/255")],
    "pgd": [
        CloakRow("steps=4"),
        CloakRow("eps=4/255, extractors=[plain, strong], steps=4"),
        CloakRow("eps=5.5/255, step=5/255, steps=3"),
    ],
    "fawkes-0.3": [
        CloakRow("lr=100, steps=6", by_person=True, steady=False),
        CloakRow("extractors=[plain, strong], furthest=3, lr=100, steps=4", by_person=True, steady=False),
    ],
    "fawkes": [
        CloakRow("mode=low, steps=8", steady=False),
        CloakRow("mode=low, patience=2, steps=12", steady=False),
        CloakRow("extractors=[plain, strong], lr=5, most=4/255, steps=6", steady=False),
    ],
    "lowkey": [
        CloakRow("steps=4"),
        CloakRow("extractors=[plain], steps=3, views=blurred"),
        CloakRow("c=0, extractors=[plain, margin, strong], faithful=true, start=0.01, steps=3, views=plain"),
    ],
    "opom": [
        CloakRow("steps=4", by_person=True),
        CloakRow("eps=4/255, extractors=[plain, strong], model=affine, photos=3, steps=4", by_person=True),
    ],
    "in-turn": [
        CloakRow("cloaks=[none, 'pgd(steps=3)']", by_person=True),
        CloakRow(TURN, by_person=True, steady=False),
    ],
}
CASES = [(name, row) for name, rows in ROWS.items() for row in rows]
Contexts = Callable[..., CloakContext]


class Counting(nn.Module):
    """An extractor that counts the photos that gradients go through."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.photos = inner, 0

    def forward(self, photos: Tensor) -> Tensor:
        self.photos += len(photos) if torch.is_grad_enabled() and photos.requires_grad else 0
        return self.inner(photos)


class Bench:
    """A cloak of the table on the planted people."""

    def __init__(self, name: str, row: CloakRow, batch: Batch, contexts: Contexts) -> None:
        self.name, self.row, self.batch = name, row, batch
        self.spelled = f"{name}({row.settings})" if row.settings else name
        self.method: Any = METHODS.compose("move", self.spelled).method
        self._contexts = contexts

    def context(self, seed: int = 0) -> CloakContext:
        return self._contexts(len(self.method.surrogates()), seed)

    def moved(self, batch: Batch | None = None, seed: int = 0) -> Batch:
        return self.method(batch or self.batch, context=self.context(seed))

    def stored(self, batch: Batch | None = None) -> Tensor:
        return cloak_and_round(self.method, batch or self.batch, self.context())[0]

    def agrees(self, rows: Tensor) -> bool:
        """Return whether some rows become the same by themselves as among all."""
        alone, among, clean = self.stored(self.batch.select(rows)), self.stored()[rows], self.batch.pictures[rows]
        if self.row.steady:
            return same(alone, among)
        apart, change = (to_float(alone) - to_float(among)).abs().mean(), (to_float(among) - clean).abs().mean()
        return bool(apart < 0.25 * change)  # with another seed: .87 and more

    def people(self, *people: int) -> Tensor:
        """Return the rows of some people, those of the first one first."""
        known = self.batch.labels.unique()
        return torch.cat([(self.batch.labels == known[p]).nonzero().flatten() for p in people])


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}({case[1].settings})")
def bench(request: pytest.FixtureRequest, batch: Batch, context: Contexts) -> Bench:
    name, row = request.param
    return Bench(name, row, batch, context)


def same(a: Tensor, b: Tensor, share: float = 0.02) -> bool:
    """Return whether 8-bit photos agree but for what rounding in another order does to a few entries.

    A gradient next to zero may point the other way, and a step that follows signs then goes there. What is drawn for
    another photo differs nearly everywhere.
    """
    return a.shape == b.shape and float((a != b).double().mean()) < share


def test_every_cloak_has_a_row() -> None:
    assert set(ROWS) == set(MOVES)


@pytest.mark.parametrize("name", MOVES)
def test_the_sheet_of_a_cloak_names_the_paper_and_explains_every_setting(name: str) -> None:
    sheet = METHODS.sheet("move", name)
    if ROWS[name][0].ours:
        assert sheet.paper == ""
    else:
        assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:", sheet.doc.split("\n\n")[0]), f"{name} cannot be looked up"
    told = [f for f, _, _ in sheet.fields if re.search(rf"^\s*(?:\w+, )*{f}(?:, \w+)*:\s+\S", sheet.doc, re.MULTILINE)]
    assert told == [field for field, _, _ in sheet.fields]


@pytest.mark.parametrize("name", MOVES)
def test_a_cloak_is_a_frozen_keyword_only_dataclass_with_a_version(name: str) -> None:
    cls: Any = load(METHODS.target("move", name))
    assert cls.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(cls))
    assert type(cls.version) is int
    assert cls.version >= 1
    assert cls.norm in {"linf", None}


def test_spelled_read_back_and_pickled_it_is_the_same(bench: Bench) -> None:
    first = METHODS.compose("move", bench.spelled)
    again = METHODS.compose("move", first.spelling)
    assert again == first
    assert again.identity() == first.identity()
    assert pickle.loads(pickle.dumps(first.method)) == first.method
    assert hash(again.method) == hash(first.method)


def test_settings_that_no_cloak_takes_are_refused(bench: Bench) -> None:
    name, method = bench.name, bench.method
    with pytest.raises(ConfigError, match="no setting 'colour_of_the_moon'"):
        METHODS.compose("move", f"{name}(colour_of_the_moon=1)")
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            for bad in ("-1", "-0.5", ".nan", "inf", "many"):
                with pytest.raises(ConfigError, match=rf"{field.name}|{name}"):
                    METHODS.compose("move", f"{name}({field.name}={bad})")
    for bad in ("[]", "[plane]", "[none]", "['plain+margin']"):
        if "extractors" in {field.name for field in dataclasses.fields(method)}:
            with pytest.raises(ConfigError, match=name):
                METHODS.compose("move", f"{name}(extractors={bad})")
    if getattr(method, "norm", None) == "linf" and "eps" in {field.name for field in dataclasses.fields(method)}:
        with pytest.raises(ConfigError, match="8/255"):
            METHODS.compose("move", f"{name}(eps=8)")


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("pgd(steps=0)", "steps = 0"),
        ("pgd(step=0)", "step = 0"),
        ("fawkes(mode=ultra)", "'low', 'mid' or 'high'"),
        ("fawkes(budget=0)", "budget"),
        ("fawkes(budget=1)", "budget"),
        ("fawkes(steps=0)", "steps"),
        ("fawkes(lr=0)", "lr"),
        ("fawkes(most=0)", "most"),
        ("fawkes-0.3(mode=hi)", "ultra"),
        ("fawkes-0.3(furthest=0)", "furthest"),
        ("fawkes-0.3(budget=1)", "budget"),
        ("lowkey(views=none)", "blurred"),
        ("lowkey(perceptual=lpips)", "dssim"),
        ("lowkey(steps=0)", "steps"),
        ("lowkey(steps=500)", "lowkey.*1.255"),
        ("opom(model=hull)", "'center' or 'affine'"),
        ("opom(photos=0)", "photos"),
        ("opom(eps=20)", "20/255"),
        ("in-turn(cloaks=[pgd])", "two cloaks"),
        ("in-turn(cloaks=[pgd, gpd])", "pgd"),
        ("in-turn(cloaks=[pgd, in-turn])", "inside itself"),
        ("in-turn(cloaks=[none, 'pgd(steps=0)'])", "steps = 0"),
        ("in-turn(cloaks=[none, pgd+opom])", "joins several"),
    ],
)
def test_bad_settings_of_a_cloak_are_refused(spelled: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        _ = METHODS.compose("move", spelled).method


def test_ids_labels_shapes_and_the_input_are_kept(bench: Bench) -> None:
    batch = bench.batch
    before = batch.pictures.clone(), batch.labels.clone()
    moved = bench.moved()
    assert (moved.ids, moved.classes) == (batch.ids, batch.classes)
    assert torch.equal(moved.labels, batch.labels)
    assert moved.pictures.shape == batch.pictures.shape
    assert moved.pictures.dtype == torch.float32
    assert not moved.pictures.requires_grad
    assert moved.pictures.isfinite().all()
    assert moved.pictures.min() >= 0
    assert moved.pictures.max() <= 1
    assert torch.equal(batch.pictures, before[0])
    assert torch.equal(batch.labels, before[1])


def test_the_promised_radius_is_kept_with_8_bits(bench: Bench) -> None:
    stored, ball = cloak_and_round(bench.method, bench.batch, bench.context())
    assert stored.dtype == torch.uint8
    change = (stored.int() - to_uint8(bench.batch.pictures).int()).abs().flatten(1).amax(1)
    if bench.name == "none":
        assert change.max() == 0
        return
    assert (change > 0).double().mean() >= 0.5, "the cloak died when it was saved with 8 bits"
    assert (ball is None) == (bench.method.norm is None)
    if ball is not None:
        assert ball.radius == bench.method.eps
        assert float(change.max()) <= 255 * ball.radius + 1e-4
        assert float(change.max()) >= np.floor(255 * ball.radius + 1e-4) - 1, "hardly any of the budget is used"


def test_photos_at_the_ends_of_the_range_stay_inside_it(bench: Bench) -> None:
    batch = bench.batch.with_pictures((bench.batch.pictures > 0.5).float())
    moved = bench.moved(batch).pictures
    assert moved.isfinite().all()
    assert moved.min() >= 0
    assert moved.max() <= 1
    stored, ball = cloak_and_round(bench.method, batch, bench.context())
    if ball is not None:
        assert ball.contains(to_float(stored) - batch.pictures).all()


def test_the_same_seed_gives_the_same_bytes_another_seed_others(bench: Bench) -> None:
    first, again, other = (bench.moved(seed=seed).pictures for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != bench.row.random


def test_the_order_of_photos_does_not_matter(bench: Bench) -> None:
    assert bench.agrees(torch.randperm(len(bench.batch), generator=generator(0, "order")))


def test_what_other_people_are_there_does_not_matter(bench: Bench) -> None:
    assert bench.agrees(bench.people(0))
    assert bench.agrees(bench.people(3, 1))


def test_what_other_photos_are_there_does_not_matter(bench: Bench) -> None:
    if not bench.row.by_person:
        assert bench.agrees(torch.tensor([5, 0, 9]))


def test_noise_follows_ids_and_not_places(bench: Bench) -> None:
    if bench.row.random and not bench.row.by_person:
        renamed = dataclasses.replace(bench.batch, ids=tuple(f"x{i}" for i in range(len(bench.batch))))
        assert not torch.equal(bench.moved(renamed).pictures, bench.moved().pictures)


def test_passes_are_counted_as_they_are_made(bench: Bench) -> None:
    given = bench.context()
    counting = tuple(Counting(embedder) for embedder in given.embedders)
    counted = dataclasses.replace(given, embedders=counting, meter=Meter())
    bench.method(bench.batch, context=counted)
    assert counted.meter.samples == sum(embedder.photos for embedder in counting)
    assert (counted.meter.samples > 0) == bool(counting)


def test_extractors_and_the_global_states_are_untouched(bench: Bench) -> None:
    given = bench.context()
    for embedder in given.embedders:
        embedder.train()
        next(m for m in embedder.modules() if isinstance(m, nn.BatchNorm2d)).eval()
        next(embedder.parameters()).requires_grad_(False)
    before = [_state(embedder) for embedder in given.embedders], _global_states()
    try:
        bench.method(bench.batch, context=given)
        assert ([_state(embedder) for embedder in given.embedders], _global_states()) == before
        assert torch.is_grad_enabled()
    finally:
        for embedder in given.embedders:
            embedder.eval()


def _state(network: nn.Module) -> tuple[Any, ...]:
    return (
        {name: tensor.contiguous().numpy().tobytes() for name, tensor in network.state_dict().items()},
        [module.training for module in network.modules()],
        [(p.requires_grad, p.grad is None) for p in network.parameters()],
    )


def _global_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().tolist(), name, np.asarray(keys).tolist(), tuple(rest), random.getstate()


# structural dissimilarity


def pairs(kind: str, side: int = 24) -> tuple[Tensor, Tensor]:
    """Return photos and what they became: random, flat and bright, with edges, hardly changed."""
    source = generator(0, "pairs", kind)
    noise = 2 * torch.rand(4, 3, side, side, generator=source) - 1
    clean = {
        "random": torch.rand(4, 3, side, side, generator=source),
        "bright": torch.full((4, 3, side, side), 0.98),
        "flat": torch.full((4, 3, side, side), 0.5),
        "edges": (torch.arange(side) % 8 < 4).float().expand(4, 3, side, side).clone(),
        "hardly": torch.rand(4, 3, side, side, generator=source),
    }[kind]
    return clean, (clean + {"hardly": 1e-3, "bright": 0.02}.get(kind, 0.1) * noise).clamp(0, 1)


KINDS = ["random", "bright", "flat", "edges", "hardly"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [11, 24])
def test_dssim_is_that_of_our_ssim_and_of_scikit_image(kind: str, side: int) -> None:
    clean, moved = pairs(kind, side)
    found = Dssim(clean)(moved)
    assert torch.allclose(found, (1 - ssim(moved, clean)) / 2, atol=2e-5)
    for ours, a, b in zip(found.tolist(), clean.double().numpy(), moved.double().numpy(), strict=True):
        similarity: np.ndarray = structural_similarity(  # pyright: ignore[reportAssignmentType]
            a,
            b,
            channel_axis=0,
            data_range=1,
            full=True,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )[1]
        inside = similarity[:, 5 : side - 5, 5 : side - 5].mean()
        assert ours == pytest.approx((1 - inside) / 2, abs=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_dssim_of_equal_photos_is_nothing(kind: str) -> None:
    clean, _ = pairs(kind)
    assert Dssim(clean)(clean).abs().max() < 1e-6


@pytest.mark.parametrize("kind", ["random", "flat", "edges"])
def test_the_gradient_of_dssim_is_that_of_small_differences(kind: str) -> None:
    clean, moved = (t[:2, :, :12, :12].double() for t in pairs(kind))
    dssim = Dssim(clean)
    leaf = moved.clone().requires_grad_()
    assert torch.autograd.gradcheck(dssim, (leaf,), eps=1e-6, atol=1e-6, fast_mode=True)


def test_some_rows_of_dssim_are_those_of_all() -> None:
    clean, moved = pairs("random")
    whole = Dssim(clean)
    for rows in (torch.tensor([2, 0]), torch.tensor([False, True, True, False])):
        assert torch.allclose(whole.rows(rows)(moved[rows]), whole(moved)[rows], atol=1e-7)
    assert torch.equal(whole(moved), Dssim(clean)(moved))


def test_photos_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(DataError, match="11 x 11"):
        Dssim(torch.zeros(1, 3, 10, 20))


# Adadelta and tanh space


def test_adadelta_steps_as_torchs_does() -> None:
    source = generator(0, "adadelta")
    z = torch.randn(3, 2, 4, generator=source)
    leaf = z.clone().requires_grad_()
    theirs = torch.optim.Adadelta([leaf], lr=7.0, rho=0.95, eps=1e-7)
    ours = Adadelta.like(z)
    for step in range(30):
        gradient = torch.randn(z.shape, generator=source) * 10.0 ** (-(step % 5))
        leaf.grad = gradient.clone()
        theirs.step()
        z = ours.move(z, gradient, 7.0)
        assert torch.allclose(z, leaf.detach(), rtol=1e-5, atol=1e-7)


def test_rows_of_adadelta_go_on_as_if_the_others_were_there() -> None:
    source = generator(1, "adadelta")
    z, kept = torch.randn(4, 6, generator=source), torch.tensor([3, 1])
    whole = Adadelta.like(z)
    z = whole.move(z, torch.randn(4, 6, generator=source), 5.0)
    part, gradient = whole.rows(kept), torch.randn(4, 6, generator=source)
    assert torch.equal(part.move(z[kept], gradient[kept], 5.0), whole.move(z, gradient, 5.0)[kept])


def test_tanh_space_and_back() -> None:
    photos = torch.linspace(0, 1, 256)
    z = to_tanh(photos)
    assert z.isfinite().all()
    assert torch.allclose(from_tanh(z), photos, atol=1e-6)
    assert torch.equal(to_uint8(from_tanh(z)), to_uint8(photos))


# the control, and moving away


def features(photos: Tensor, *embedders: nn.Module) -> Tensor:
    return torch.cat([embed(embedder, to_uint8(photos)) for embedder in embedders], dim=1)


def away(moved: Tensor, clean: Tensor, embedder: nn.Module) -> Tensor:
    """Return how far the features of 8-bit photos are from the clean ones', [N]."""
    return (features(moved, embedder) - features(clean, embedder)).norm(dim=1)


def cloaked(spelled: str, batch: Batch, given: CloakContext) -> Tensor:
    return METHODS.compose("move", spelled).method(batch, context=given).pictures


def test_random_noise_is_of_full_size_everywhere(batch: Batch, context: Contexts) -> None:
    batch = batch.with_pictures(batch.pictures.clamp(0.1, 0.9))
    change = cloaked("random-noise", batch, context(0)) - batch.pictures
    assert torch.allclose(change.abs(), torch.full_like(change, 16 / 255), atol=1e-6)
    assert abs(float(change.sign().mean())) < 0.02
    assert len({photo.numpy().tobytes() for photo in change.sign()}) == len(batch)


def test_pgd_moves_the_features_of_what_it_is_made_on(batch: Batch, context: Contexts) -> None:
    own, other = context(2).embedders
    white = cloaked("pgd", batch, dataclasses.replace(context(1), embedders=(own,)))
    transferred = cloaked("pgd", batch, dataclasses.replace(context(1), embedders=(other,)))
    noisy = cloaked("random-noise", batch, context(0))
    by = {
        name: float(away(moved, batch.pictures, own).mean())
        for name, moved in (("white", white), ("transferred", transferred), ("noise", noisy))
    }
    assert by["white"] > 1.5 * by["transferred"] > 1.5 * by["noise"]


def test_pgd_on_several_moves_them_all(batch: Batch, context: Contexts) -> None:
    given = context(2)
    moved = cloaked("pgd(extractors=[plain, strong])", batch, given)
    noisy = cloaked("random-noise", batch, context(0))
    for embedder in given.embedders:
        assert float(away(moved, batch.pictures, embedder).mean()) > 3 * float(
            away(noisy, batch.pictures, embedder).mean()
        )


def test_pgd_reaches_the_best_corner_of_a_feature_in_a_line(batch: Batch) -> None:
    """One feature w x / |w x| and one fixed: with eps in every entry, the far corner has a closed form."""
    side = batch.pictures.shape[-1]
    inner = batch.with_pictures(batch.pictures.clamp(0.2, 0.8))
    line = Projection(side, dim=1)
    weights = line.matrix.detach()[:, 0].view(3, side, side)

    class Flat(nn.Module):
        def forward(self, photos: Tensor) -> Tensor:
            return torch.stack([(photos * weights).sum((1, 2, 3)), torch.zeros(len(photos))], dim=1)

    moved = cloaked("pgd(eps=8/255, step=8/255, steps=5)", inner, CloakContext(embedders=(Flat(),)))
    change = moved - inner.pictures
    corners = 8 / 255 * weights.sign()
    apart = torch.minimum((change - corners).flatten(1).abs().amax(1), (change + corners).flatten(1).abs().amax(1))
    assert apart.max() < 1e-5


# Fawkes 1.0


def noise_of_the_same_dssim(clean: Tensor, moved: Tensor) -> Tensor:
    """Return each photo with random signs of the size that gives it the moved photo's DSSIM."""
    signs = torch.randint(0, 2, clean.shape, generator=generator(0, "signs")) * 2.0 - 1
    dssim, wanted = Dssim(clean), Dssim(clean)(moved)
    low, high = torch.zeros(len(clean)), torch.ones(len(clean))
    for _ in range(30):
        middle = (low + high) / 2
        over = dssim((clean + middle[:, None, None, None] * signs).clamp(0, 1)) > wanted
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return (clean + low[:, None, None, None] * signs).clamp(0, 1)


@pytest.mark.parametrize("mode", ["low", "mid"])
def test_fawkes_spends_its_budget_on_features_and_not_more(mode: str, batch: Batch, context: Contexts) -> None:
    given = context(1)
    moved = cloaked(f"fawkes(mode={mode})", batch, given)
    budget = fawkes.MODES[mode].budget
    spent = Dssim(batch.pictures)(moved)
    assert spent.max() <= 1.1 * budget + 1e-6
    assert spent.mean() > 0.5 * budget, "the budget is hardly used"
    assert (moved - batch.pictures).abs().max() <= 15 / 255 + 1e-6
    noisy = noise_of_the_same_dssim(batch.pictures, moved)
    (embedder,) = given.embedders
    ahead = away(moved, batch.pictures, embedder) > away(noisy, batch.pictures, embedder)
    assert ahead.double().mean() > 0.9
    assert float(away(moved, batch.pictures, embedder).mean()) > 2 * float(away(noisy, batch.pictures, embedder).mean())


def test_fawkes_changes_no_pixel_by_more_than_it_is_told(batch: Batch, context: Contexts) -> None:
    moved = cloaked("fawkes(budget=0.3, most=5/255, steps=20)", batch, context(1))
    change = (moved - batch.pictures).abs()
    assert change.max() <= 5 / 255 + 1e-6
    assert change.max() > 4.9 / 255


@pytest.mark.parametrize(
    ("c", "over", "wanted"),
    [  # with a budget of 1: inside up to .9, over from 1.1
        (1.0, 0.5, 2.0),
        (2.0, 0.9, 4.0),
        (128.0, 0.0, 256.0),
        (256.0, 0.0, 256.0),
        (0.25, 0.5, 1.0),
        (1.0, 1.5, 0.5),
        (0.5, 1.1, 0.25),
        (8.0, 1.2, 1.0),
        (1.0, 1.0, 1.0),
        (8.0, 1.0, 1.0),
        (0.125, 0.95, 1.0),
    ],
)
def test_the_weight_of_features_follows_the_budget(c: float, over: float, wanted: float) -> None:
    found = fawkes._balanced(torch.tensor([c, 1.0]), torch.tensor([over, 1.0]), 1.0)
    assert found.tolist() == [wanted, 1.0]


def fawkes_by_hand(
    clean: Tensor, start: Tensor, embedder: nn.Module, settings: tuple[float, int, float, float]
) -> Tensor:
    """Return one photo [1, 3, H, W] cloaked by a loop in the order of the release, without portions or masks."""
    budget, steps, lr, most = settings
    with torch.no_grad():
        reference = embedder(clean)
    z, c = (to_tanh(clean) + start).requires_grad_(), 1.0
    optimizer = torch.optim.Adadelta([z], lr=lr, rho=0.95, eps=1e-7)
    best, furthest, closest = clean, -1.0, float("inf")
    for step in range(steps):
        photo = clean + (from_tanh(z) - clean).clamp(-most, most)
        moved, over = (embedder(photo) - reference).square().sum(), (1 - ssim(photo, clean)[0]) / 2
        optimizer.zero_grad()
        (1e6 * (over - budget).clamp_min(0) ** 2 - c * moved).backward()
        dissimilar = float(over.detach())
        if dissimilar <= 1.1 * budget:
            if float(moved.detach()) > furthest:
                best, furthest = photo.detach(), float(moved.detach())
        elif furthest < 0 and abs(dissimilar - budget) < closest:
            best, closest = photo.detach(), abs(dissimilar - budget)
        if step == 0:
            assert z.grad is not None
            z.data -= 0.01 * z.grad.sign()
        else:
            optimizer.step()
        if dissimilar <= 0.9 * budget:
            c = min(2 * c, 256.0) if c >= 1 else 1.0
        elif dissimilar >= 1.1 * budget:
            c = c / 2 if c <= 1 else 1.0
        else:
            c = 1.0
    return best


def test_fawkes_is_its_own_loop_photo_by_photo(batch: Batch) -> None:
    """On features in a line, where rounding does not tip a photo over."""
    few, embedder = batch.select([0, 5, 11]), Projection(batch.pictures.shape[-1], dim=4)
    moved = cloaked("fawkes(budget=0.01, lr=3, steps=15)", few, CloakContext(embedders=(embedder,)))
    shape = tuple(few.pictures.shape[1:])
    start = per_sample(0, "fawkes", few.ids, lambda source: (2 * torch.rand(shape, generator=source) - 1) * 1e-4)
    for i in range(3):
        by_hand = fawkes_by_hand(few.pictures[i : i + 1], start[i : i + 1], embedder, (0.01, 15, 3.0, 15 / 255))
        assert float((moved[i] - by_hand[0]).abs().mean()) < 1e-3
        assert float(away(moved[i : i + 1], by_hand, embedder)) < 0.1 * float(
            away(moved[i : i + 1], few.pictures[i : i + 1], embedder)
        )


def test_with_all_patience_no_photo_is_dropped(batch: Batch, context: Contexts) -> None:
    given = context(1)
    never = cloaked("fawkes(mode=low, steps=12)", batch, given)
    patient = context(1)
    assert torch.equal(cloaked("fawkes(mode=low, patience=12, steps=12)", batch, patient), never)
    assert patient.meter.samples == given.meter.samples == 12 * len(batch)


def test_photos_that_get_no_further_are_finished_and_the_others_go_on(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the same search where nothing is dropped, and each photo's best is taken from its own steps alone."""
    embedder = Projection(batch.pictures.shape[-1], dim=4)
    given = CloakContext(embedders=(embedder,))
    impatient = cloaked("fawkes(budget=0.002, lr=30, patience=3, steps=40)", batch, given)
    assert given.meter.samples < 40 * len(batch), "nothing was dropped: nothing was tested"
    for i in range(len(batch)):
        own = CloakContext(embedders=(embedder,))
        alone = cloaked("fawkes(budget=0.002, lr=30, patience=3, steps=40)", batch.select([i]), own)
        assert same(to_uint8(alone), to_uint8(impatient[i : i + 1]))
        given.meter.samples -= own.meter.samples
    assert abs(given.meter.samples) <= 3, "each photo took as many steps as alone"


BUDGET = 0.01
Script = list[list[tuple[float, float]]]
"""How far every photo's features are and how dissimilar it is, in budgets, at every step: [photos][steps]."""


def chosen_by_hand(script: Script, patience: int) -> list[tuple[int, int]]:
    """Return which step each photo is kept from and how many it takes, -1 for the photo as it was."""
    found = []
    for photo in script:
        best, furthest, closest, waited, taken = -1, -1.0, float("inf"), 0, 0
        for step, (moved, over) in enumerate(photo):
            taken, waited = taken + 1, waited + 1
            if over <= 1.1 and moved > furthest:
                best, furthest, waited = step, moved, 0
            elif over > 1.1 and furthest < 0 and over - 1 < closest:
                best, closest = step, over - 1
            if patience and waited >= patience:
                break
        found.append((best, taken))
    return found


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    photos, steps = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    looked = st.tuples(st.sampled_from([0.0, 1.0, 2.0, 3.0]), st.sampled_from([0.5, 1.0, 1.3, 2.0, 4.0]))
    return draw(st.lists(st.lists(looked, min_size=steps, max_size=steps), min_size=photos, max_size=photos))


@given(scripts(), st.integers(0, 5))
def test_the_photo_that_is_kept_is_the_furthest_within_the_budget_or_the_nearest_to_it(
    script: Script, patience: int
) -> None:
    """Each photo is told by its gray, and what it became by its step; nothing is computed on the way."""
    step = iter(range(100))

    def look(self: Any, *_: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        now = next(step)
        at = [script[round(float(gray) * 10)][now] for gray in self.clean[:, 0, 0, 0]]
        moved, over = (torch.tensor(column) for column in zip(*at, strict=True))
        return torch.full_like(self.clean, now + 1), moved, BUDGET * over, torch.zeros_like(self.clean)

    clean = (torch.arange(len(script)) / 10)[:, None, None, None].expand(-1, 3, 11, 11).clone()
    method = fawkes.Fawkes(budget=BUDGET, steps=len(script[0]), patience=patience)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fawkes._Search, "look", look)
        best, passes = method._moved(nn.Flatten(), clean, torch.zeros_like(clean))
    wanted = chosen_by_hand(script, patience)
    assert passes == sum(taken for _, taken in wanted)
    for photo, before, (kept, _) in zip(best, clean, wanted, strict=True):
        assert torch.equal(photo, before if kept < 0 else torch.full_like(photo, kept + 1))


# Fawkes 0.3


def target_of(batch: Batch, person: int, given: CloakContext, embedder: nn.Module, furthest: int) -> tuple[int, Tensor]:
    """Return which of the public a mover is drawn to, and everybody's mean features."""
    others = embed(embedder, given.others)
    people = given.other_people.unique()
    bank = torch.stack([others[given.other_people == p].mean(0) for p in people])
    own = features(batch.pictures[batch.labels == person], embedder).mean(0)
    far = sorted(range(len(people)), key=lambda i: -float((bank[i] - own).norm()))[:furthest]
    source = generator(given.seed, "fawkes target", batch.classes[person])
    return far[int(torch.randint(len(far), (), generator=source))], bank


@pytest.mark.parametrize("furthest", [1, 3])
def test_the_targeted_cloak_goes_towards_its_target_more_than_towards_others(
    furthest: int, batch: Batch, context: Contexts
) -> None:
    given = context(1)
    (embedder,) = given.embedders
    moved = cloaked(f"fawkes-0.3(budget=0.05, furthest={furthest}, lr=100, steps=60)", batch, given)
    ahead, aligned = [], []
    for person in batch.labels.unique().tolist():
        rows = batch.labels == person
        target, bank = target_of(batch, person, given, embedder, furthest)
        before, after = (features(photos[rows], embedder) for photos in (batch.pictures, moved))
        gained = (torch.cdist(before, bank) - torch.cdist(after, bank)).mean(0)
        assert gained[target] > 0
        ahead.append(float(gained[target] - gained.mean()))
        shift = after.mean(0) - before.mean(0)
        aligned.append(float(F.cosine_similarity(shift, bank[target] - before.mean(0), dim=0)))
    assert min(ahead) > 0
    assert np.mean(aligned) > 0.6


def test_another_target_draws_elsewhere(batch: Batch, context: Contexts) -> None:
    """A person who is drawn to one of the public under one seed, and to another under another."""
    runs = []
    for seed in (0, 1):
        given = context(1, seed)
        moved = cloaked("fawkes-0.3(budget=0.05, lr=100, steps=40)", batch, given)
        runs.append((given, features(moved, *given.embedders)))
    told = 0
    for person in batch.labels.unique().tolist():
        rows = batch.labels == person
        found = [target_of(batch, person, given, given.embedders[0], 20) for given, _ in runs]
        (one, bank), (other, _) = found
        if one != other:
            told += 1
            for target, mine, theirs in ((one, *runs), (other, *runs[::-1])):
                near, far = ((after[rows] - bank[target]).norm(dim=1).mean() for _, after in (mine, theirs))
                assert near < far
    assert told, "all were drawn to the same: nothing was tested"


def test_the_targeted_cloak_is_held_back_by_its_budget(batch: Batch, context: Contexts) -> None:
    few = batch.select(list(range(8)))
    tight, loose = (
        Dssim(few.pictures)(cloaked(f"fawkes-0.3(budget={budget}, lr=20, steps=150)", few, context(1)))
        for budget in (0.002, 0.02)
    )
    assert tight.mean() < 2 * 0.002
    assert 3 * tight.mean() < loose.mean() < 2 * 0.02


def test_nobody_to_look_like_is_refused(batch: Batch, context: Contexts) -> None:
    alone = dataclasses.replace(context(1), others=torch.zeros(0, 3, 24, 24, dtype=torch.uint8))
    with pytest.raises(DataError, match="nobody else's photo"):
        cloaked("fawkes-0.3(steps=1)", batch, alone)


# LowKey


def lowkey_objective(photo: Tensor, clean: Tensor, embedders: Sequence[nn.Module], views: str, c: float) -> Tensor:
    """Return what LowKey raises, of one photo [1, 3, H, W], term by term."""

    def feature(embedder: nn.Module, seen: Tensor) -> Tensor:
        both = embedder(seen)[0] + embedder(torch.flip(seen, [3]))[0]
        return both / both.norm()

    terms = []
    for embedder in embedders:
        with torch.no_grad():
            reference = feature(embedder, clean)
        for view in ("plain", "blurred"):
            if views in ("both", view):
                seen = gaussian(photo, 7, 3.0) if view == "blurred" else photo
                terms.append((feature(embedder, seen) - reference).square().mean() / reference.norm())
    return sum(terms[1:], terms[0]) / len(terms) - c * (1 - ssim(photo, clean)[0]) / 2


def lowkey_by_hand(
    batch: Batch, embedders: Sequence[nn.Module], steps: int, views: str = "both", c: float = 0.05
) -> Tensor:
    """Return photos cloaked one at a time by a loop over signs."""
    shape, done = tuple(batch.pictures.shape[1:]), []
    start = per_sample(0, "lowkey", batch.ids, lambda s: (2 * torch.rand(shape, generator=s) - 1) * 0.005)
    for i in range(len(batch)):
        clean = batch.pictures[i : i + 1]
        photo = (clean + start[i : i + 1]).clamp(0, 1)
        for _ in range(steps):
            leaf = photo.clone().requires_grad_()
            (slope,) = torch.autograd.grad(lowkey_objective(leaf, clean, embedders, views, c), leaf)
            photo = (photo + 0.0025 * slope.sign()).clamp(0, 1)
        done.append(photo)
    return torch.cat(done)


def apart(a: Tensor, b: Tensor) -> float:
    """Return the share of entries that differ by more than rounding."""
    return float(((a - b).abs() > 1e-4).double().mean())


@pytest.mark.parametrize("views", ["both", "plain", "blurred"])
@pytest.mark.parametrize("c", [0.05, 50.0])
def test_lowkey_is_its_own_loop_photo_by_photo(views: str, c: float, batch: Batch, context: Contexts) -> None:
    few, given = batch.select([3, 8]), context(2)
    moved = cloaked(f"lowkey(c={c}, steps=4, views={views})", few, given)
    assert apart(moved, lowkey_by_hand(few, given.embedders, 4, views, c)) < 0.01
    for other in {"both", "plain", "blurred"} - {views}:
        assert apart(moved, lowkey_by_hand(few, given.embedders, 4, other, c)) > 0.02
    assert apart(moved, lowkey_by_hand(few, given.embedders, 4, views, 50.05 - c)) > 0.02


def test_as_released_the_last_one_with_a_network_stands_for_all_of_them(batch: Batch, context: Contexts) -> None:
    few, given = batch.select([3, 8]), dataclasses.replace(context(3), names=("big", "small", "big"))
    first, second, third = given.embedders
    settings = "extractors=[plain, margin, strong], steps=4"
    repaired = cloaked(f"lowkey({settings})", few, given)
    released = cloaked(f"lowkey({settings}, faithful=true)", few, given)
    assert apart(repaired, lowkey_by_hand(few, [first, second, third], 4)) < 0.01
    assert apart(released, lowkey_by_hand(few, [third, second, third], 4)) < 0.01
    assert apart(released, repaired) > 0.05
    distinct = dataclasses.replace(given, names=("a", "b", "c"))
    assert torch.equal(cloaked(f"lowkey({settings}, faithful=true)", few, distinct), repaired)


def test_lowkey_stays_within_what_its_steps_can_reach(batch: Batch, context: Contexts) -> None:
    method: Any = METHODS.compose("move", "lowkey(steps=4)").method
    assert method.eps == pytest.approx(0.015)
    change = (method(batch, context=context(2)).pictures - batch.pictures).abs()
    assert 0.012 < float(change.max()) <= 0.015 + 1e-6


class Stack(nn.Module):
    """Two layers with ReLUs, the second in place, as torchvision has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.relu, self.in_place = nn.ReLU(), nn.ReLU(inplace=True)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, generator=generator(0))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, photos: Tensor) -> Tensor:
        return self.in_place(self.second(self.relu(self.first(photos))))


def test_the_perceptual_distance_of_a_network_is_that_of_its_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Stack()
    monkeypatch.setattr("countermove.nets.load.load", lambda name: network)
    clean, moved = pairs("random", 12)
    found = perceptual_distance("made:up")(clean)(moved)
    with torch.no_grad():
        for i in range(len(clean)):
            total = 0.0
            a, b = clean[i : i + 1], moved[i : i + 1]
            for layer in (network.first, network.second):
                a, b = layer(a).relu(), layer(b).relu()
                positions = [
                    (F.normalize(a[0, :, y, x], dim=0) - F.normalize(b[0, :, y, x], dim=0)).square().sum()
                    for y in range(a.shape[2])
                    for x in range(a.shape[3])
                ]
                total += float(torch.stack(positions).mean())
            assert float(found[i]) == pytest.approx(total, rel=1e-3)
    assert perceptual_distance("made:up")(clean)(clean).abs().max() == 0
    leaf = moved.clone().requires_grad_()
    (slope,) = torch.autograd.grad(perceptual_distance("made:up")(clean)(leaf).sum(), leaf)
    assert slope.abs().max() > 0
    monkeypatch.setattr("countermove.nets.load.load", lambda name: nn.Conv2d(3, 4, 3))
    with pytest.raises(ConfigError, match="no ReLU"):
        perceptual_distance("made:up")


# OPOM


@pytest.mark.parametrize("model", ["center", "affine"])
def test_all_photos_of_a_person_wear_the_same_mask(model: str, batch: Batch, context: Contexts) -> None:
    inner = batch.with_pictures(batch.pictures.clamp(0.1, 0.9))
    change = cloaked(f"opom(model={model}, photos=2, steps=4)", inner, context(1)) - inner.pictures
    masks = []
    for person in batch.labels.unique().tolist():
        own = change[batch.labels == person]
        assert (own - own[:1]).abs().max() < 1e-6
        masks.append(own[0])
    assert all((a - b).abs().max() > 1 / 255 for i, a in enumerate(masks) for b in masks[:i])


def test_a_mask_is_made_from_the_first_photos_by_id(batch: Batch, context: Contexts) -> None:
    person = int(batch.labels[0])
    rows = (batch.labels == person).nonzero().flatten().tolist()
    own = batch.select(rows[::-1])
    mask = cloaked("opom(photos=2, steps=4)", own, context(1))
    darker = own.pictures.clone()
    darker[:2] *= 0.5  # the last ones by id
    assert same(
        to_uint8(cloaked("opom(photos=2, steps=4)", own.with_pictures(darker), context(1)))[2:], to_uint8(mask)[2:]
    )
    darker = own.pictures.clone()
    darker[2:] *= 0.5
    assert not same(
        to_uint8(cloaked("opom(photos=2, steps=4)", own.with_pictures(darker), context(1)))[:2], to_uint8(mask)[:2]
    )


def hull_distance(feature: np.ndarray, others: np.ndarray) -> float:
    """Return the squared distance to the nearest affine combination of rows, by least squares."""
    directions = (others[1:] - others[0]).T
    weights, *_ = np.linalg.lstsq(directions, feature - others[0], rcond=1e-6)
    return float(np.square(others[0] + directions @ weights - feature).sum())


def test_the_affine_mask_raises_the_distance_to_the_hull_of_the_photos_features(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objective at the start, caught on its way to the gradient, against least squares for every photo."""
    from countermove.faces.cloaks import opom

    embedder = Projection(batch.pictures.shape[-1], dim=9)
    caught: list[tuple[Tensor, Tensor]] = []

    def catch(objective: Callable[[Tensor], Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        caught.append((mask, objective(mask).detach()))
        return caught[-1][1], torch.zeros_like(mask)

    monkeypatch.setattr(opom, "gradient_of", catch)
    cloaked("opom(model=affine, steps=1)", batch, CloakContext(embedders=(embedder,)))
    cloaked("opom(steps=1)", batch, CloakContext(embedders=(embedder,)))
    people = batch.labels.unique().tolist()
    for person, (mask, affine), (_, center) in zip(people, caught[: len(people)], caught[len(people) :], strict=True):
        photos = batch.pictures[batch.labels == person]
        clean = features(photos, embedder).double().numpy()
        with torch.no_grad():
            worn = embedder((photos + mask).clamp(0, 1)).double().numpy()
        assert affine.tolist() == pytest.approx([hull_distance(row, clean) for row in worn], rel=1e-3, abs=1e-6)
        assert center.tolist() == pytest.approx(np.square(worn - clean.mean(0)).sum(1), rel=1e-3)
        assert (affine < center).all()


def test_a_mask_takes_all_photos_of_a_person_away(batch: Batch, context: Contexts) -> None:
    given = context(1)
    (embedder,) = given.embedders
    noisy = cloaked("random-noise(eps=8/255)", batch, context(0))
    for model in ("center", "affine"):
        moved = cloaked(f"opom(model={model})", batch, given)
        gained = away(moved, batch.pictures, embedder)
        assert float(gained.mean()) > 2 * float(away(noisy, batch.pictures, embedder).mean())


# in turn


@dataclass(frozen=True)
class _Seen:
    """Who was asked, with which photos and which extractors."""

    name: str
    ids: tuple[str, ...]
    embedders: tuple[nn.Module, ...]
    names: tuple[str, ...]


def test_parts_follow_ids_and_each_cloak_gets_its_own_extractors(
    batch: Batch, context: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from countermove.faces.cloaks.opom import Opom
    from countermove.faces.cloaks.pgd import Pgd

    seen: list[_Seen] = []
    for cls in (Pgd, Opom):
        monkeypatch.setattr(
            cls,
            "__call__",
            lambda self, part, *, context: (
                seen.append(_Seen(type(self).__name__, part.ids, context.embedders, context.names)),
                part.with_pictures(1 - part.pictures),
            )[1],
        )
    given = context(3)
    shuffled = batch.select(torch.randperm(len(batch), generator=generator(0)))
    method: Any = METHODS.compose("move", "in-turn(cloaks=['opom(extractors=[plain, margin])', none, pgd])").method
    assert len(method.surrogates()) == 3
    assert method.surrogates()[2] == "target"
    moved = method(shuffled, context=given)
    assert [one.name for one in seen] == ["Opom", "Pgd"]
    assert seen[0].embedders == given.embedders[:2]
    assert seen[1].embedders == given.embedders[2:]
    assert seen[1].names == ("network 2",)
    for person in shuffled.labels.unique().tolist():
        ids = sorted(i for i, label in zip(shuffled.ids, shuffled.labels.tolist(), strict=True) if label == person)
        assert len(ids) == 4
        assert [i in seen[0].ids for i in ids] == [True, True, False, False], "4 photos in 3 parts: 2, 1, 1"
        assert [i in seen[1].ids for i in ids] == [False, False, False, True]
    for one, photo, before in zip(shuffled.ids, moved.pictures, shuffled.pictures, strict=True):
        untouched = one not in (*seen[0].ids, *seen[1].ids)
        assert torch.equal(photo, before if untouched else 1 - before)


def test_an_early_cloak_stays_as_it_was_when_a_later_one_changes(batch: Batch, context: Contexts) -> None:
    first, second = (
        cloaked(f"in-turn(cloaks=['random-noise', 'pgd(steps={steps})'])", batch, context(1)) for steps in (2, 4)
    )
    unchanged = (first == second).flatten(1).all(1)
    assert unchanged.double().mean() == 0.5


@pytest.mark.parametrize("spelled", ["in-turn(cloaks=[none, opom])", "in-turn(cloaks=['none', opom])"])
def test_a_time_before_there_was_any_cloak_is_spelled_none(spelled: str) -> None:
    composition = METHODS.compose("move", spelled)
    assert composition.method.cloaks[0] == "none"
    assert METHODS.compose("move", composition.spelling) == composition


def test_the_key_of_cloaks_in_turn_knows_their_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    from countermove.faces.cloaks.pgd import Pgd

    before = METHODS.compose("move", "in-turn").identity()
    monkeypatch.setattr(Pgd, "version", 99)
    assert METHODS.compose("move", "in-turn").identity() != before


@given(st.integers(1, 40), st.integers(2, 6))
def test_parts_are_equal_and_in_order(photos: int, cloaks: int) -> None:
    from countermove.faces.cloaks.in_turn import InTurn

    given_ids = tuple(f"{(7 * i) % photos:02d}" if photos % 7 else f"{i:02d}" for i in range(photos))
    one = Batch(
        pictures=torch.zeros(photos, 3, 1, 1),
        labels=torch.zeros(photos, dtype=torch.int64),
        ids=given_ids,
        classes=("a",),
    )
    part = InTurn(cloaks=("none",) * (cloaks - 1) + ("random-noise",))._parts(one)
    by_id = [int(part[i]) for i in sorted(range(photos), key=lambda i: given_ids[i])]
    assert by_id == sorted(by_id)
    sizes = [by_id.count(k) for k in range(cloaks)]
    assert max(sizes) - min(sizes) <= 1
