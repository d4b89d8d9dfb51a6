"""Every promotion keeps its budget, its manners and its sources; what each of them is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.nets.registry import build_network
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.files import read_picture, write_png
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import quantize_move, to_float, to_uint8
from countermove.recommender.data.planted import Planted
from countermove.recommender.extractor import feature_table, features_of
from countermove.recommender.fitting import Material
from countermove.recommender.methods import METHODS, MOVES
from countermove.recommender.play import cold_batch
from countermove.recommender.promotion import PromotionContext
from countermove.recommender.promotions.c_sema import CompositingSemantic
from countermove.recommender.promotions.expa import Expa
from countermove.recommender.promotions.insa import Insa
from countermove.recommender.promotions.n_sema import NaturalSemantic
from countermove.recommender.promotions.taamr import Taamr
from countermove.recommender.ranker import Ranker
from countermove.recommender.rankers.alexrank import AlexRank
from countermove.recommender.rankers.vbpr import Vbpr
from countermove.recommender.shop import Shop, find_hook

ROWS = {
    "none": ["none"],
    "insa": [
        "insa(eps=8/255, steps=3)",
        "insa(aggregate=sum-exp, eps=8/255, steps=3)",
        "insa(eps=8/255, mode=compat)",
        "insa(eps=8/255, knowledge=lists, steps=2, stolen=3)",
        "insa(eps=8/255, gatekeeper=1.0, steps=2)",
    ],
    "expa": ["expa(eps=8/255, steps=3)", "expa(eps=8/255, hook=i3, steps=3)"],
    "c-sema": ["c-sema", "c-sema(caption='match your jeans', layout=inset)"],
    "taamr": ["taamr(attack=fgsm, eps=8/255)", "taamr(eps=8/255, steps=3)"],
    "n-sema": [],  # reads a folder; below
}
SPELLED = [text for row in ROWS.values() for text in row]
PERTURBING = [text for text in SPELLED if text.startswith(("insa", "expa", "taamr"))]


@pytest.fixture
def ranker(material: Callable[[int], Material]) -> Ranker:
    return Vbpr(factors=2, visual=4, epochs=2, batch_size=16).fit(material(0)).ranker


@pytest.fixture
def context(shop: Shop, network: nn.Module, ranker: Ranker) -> PromotionContext:
    return PromotionContext(
        shop=shop, seed=0, ranker=ranker, network=network, embed=lambda pictures: features_of(network, pictures)
    )


def promote(spelled: str, batch: Batch, context: PromotionContext) -> Batch:
    return METHODS.compose("move", spelled).method(batch, context=context)


def test_every_promotion_has_a_row() -> None:
    assert set(ROWS) == set(MOVES)


@pytest.mark.parametrize("spelled", SPELLED)
def test_pictures_keep_shape_range_and_ids(spelled: str, shop: Shop, context: PromotionContext) -> None:
    batch = cold_batch(shop)
    moved = promote(spelled, batch, context)
    assert moved.ids == batch.ids
    assert moved.pictures.shape == batch.pictures.shape
    assert moved.pictures.dtype == torch.float32
    assert moved.pictures.isfinite().all()
    assert moved.pictures.min() >= 0
    assert moved.pictures.max() <= 1


@pytest.mark.parametrize("spelled", PERTURBING)
def test_the_budget_is_kept_after_a_png_round_trip(
    spelled: str, shop: Shop, context: PromotionContext, tmp_path: Path
) -> None:
    batch = cold_batch(shop)
    ball = Ball(norm="linf", radius=8 / 255)
    moved = promote(spelled, batch, context).pictures
    assert ball.contains(moved - batch.pictures, slack=1e-6).all()
    stored = to_uint8(quantize_move(moved, batch.pictures, ball))
    if "compat" not in spelled:  # ten passes over twelve users at the paper's rate are a tenth of a level
        assert (stored != shop.pictures[shop.cold]).any(), "nothing was changed"
    for i, picture in enumerate(stored):
        write_png(tmp_path / f"{i}.png", picture.permute(1, 2, 0).numpy())
        read = torch.from_numpy(read_picture(tmp_path / f"{i}.png").copy()).permute(2, 0, 1).int()
        assert (read - shop.pictures[shop.cold[i]].int()).abs().max() <= 8


@pytest.mark.parametrize("spelled", ["insa(eps=0, steps=2)", "expa(eps=0, steps=2)", "taamr(eps=0, steps=2)"])
def test_no_radius_changes_nothing(spelled: str, shop: Shop, context: PromotionContext) -> None:
    batch = cold_batch(shop)
    assert torch.allclose(promote(spelled, batch, context).pictures, batch.pictures, atol=1e-7)


@pytest.mark.parametrize("spelled", SPELLED)
def test_the_same_seed_gives_the_same_bytes_whatever_the_order(
    spelled: str, shop: Shop, context: PromotionContext
) -> None:
    batch, order = cold_batch(shop), [2, 0, 3, 1]
    first, again = (promote(spelled, batch, context).pictures for _ in range(2))
    assert torch.equal(first, again)
    shuffled = promote(spelled, batch.select(order), context).pictures
    assert torch.allclose(shuffled, first[order], atol=1e-4)
    alone = promote(spelled, batch.select([1]), context).pictures
    assert torch.allclose(alone, first[1:2], atol=1e-4)


@pytest.mark.parametrize("spelled", SPELLED)
def test_nothing_of_the_ranker_or_the_random_state_is_touched(
    spelled: str, shop: Shop, context: PromotionContext
) -> None:
    assert context.network is not None
    context.network.train()
    before = {name: tensor.clone() for name, tensor in context.network.state_dict().items()}
    state, pictures = torch.get_rng_state(), shop.pictures.clone()
    promote(spelled, cold_batch(shop), context)
    assert torch.equal(state, torch.get_rng_state())
    assert context.network.training
    assert all(parameter.requires_grad for parameter in context.network.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in context.network.state_dict().items())
    assert torch.equal(pictures, shop.pictures)


@pytest.mark.parametrize("method", [AlexRank(), Vbpr(factors=2, visual=4, epochs=2, batch_size=16)])
def test_insa_raises_what_it_says_it_raises(
    method: AlexRank | Vbpr, material: Callable[[int], Material], shop: Shop, context: PromotionContext
) -> None:
    ranker = method.fit(material(0)).ranker
    batch = cold_batch(shop)
    for aggregate in ("sum", "sum-exp"):
        moved = Insa(aggregate=aggregate, steps=10)(batch, context=replace(context, ranker=ranker)).pictures
        with torch.no_grad():
            before, after = (ranker.appeal(ranker.embed(p), aggregate) for p in (batch.pictures, moved))
        assert (after > before).all()


def test_expa_comes_closer_to_its_hook(shop: Shop, network: nn.Module, context: PromotionContext) -> None:
    batch, hook = cold_batch(shop), find_hook(shop, "popular")
    assert hook == int(torch.bincount(shop.train[:, 1]).argmax())
    moved = Expa(steps=10)(batch, context=context).pictures
    with torch.no_grad():
        target = features_of(network, to_float(shop.pictures[hook : hook + 1]))
        far, near = (torch.cdist(features_of(network, p), target)[:, 0] for p in (batch.pictures, moved))
    assert (near < far).all()


def test_a_known_gatekeeper_is_given_less_to_notice(shop: Shop, ranker: Ranker, context: PromotionContext) -> None:
    from countermove.pixels.jpeg import jpeg

    def noticed(pictures: Tensor) -> float:
        with torch.no_grad():
            return float((ranker.embed(pictures) - ranker.embed(jpeg(pictures, 75))).norm(dim=1).mean())

    batch = cold_batch(shop)
    plain, careful = (Insa(gatekeeper=weight, steps=30)(batch, context=context).pictures for weight in (0.0, 10.0))
    assert noticed(careful) < noticed(plain)


def test_lists_alone_are_enough_to_find_the_direction() -> None:
    shop = Planted(users=60, items=80, cold=6, side=16)()
    network = build_network("small-pooled(width=0.25)", 4, 16, generator(0, "network")).eval()
    material = Material(shop=shop, seed=0, network=network, table=feature_table(network, shop.pictures))
    target = Vbpr(factors=4, visual=8, epochs=10, batch_size=64).fit(material).ranker
    context = PromotionContext(shop=shop, seed=0, ranker=target, network=network)
    batch = cold_batch(shop)
    moved = Insa(knowledge="lists", steps=20)(batch, context=context).pictures
    with torch.no_grad():
        before, after = (target.visual(target.embed(p)) for p in (batch.pictures, moved))
    top = target.score(torch.arange(60)).topk(20, dim=1).values[:, -1:]
    assert (after > top).float().mean() > (before > top).float().mean()


def test_the_classifier_names_the_class_that_is_bought_most(
    shop: Shop, network: nn.Module, context: PromotionContext
) -> None:
    with torch.no_grad():
        named = network(to_float(shop.pictures)).argmax(1)
    bought = [int(shop.popularity[shop.warm][named[shop.warm] == k].sum()) for k in range(4)]
    moved = Taamr(steps=20)(cold_batch(shop), context=context).pictures
    with torch.no_grad():
        score = torch.log_softmax(network(moved), 1) - torch.log_softmax(network(cold_batch(shop).pictures), 1)
    assert (score[:, int(np.argmax(bought))] >= 0).all()


@pytest.mark.parametrize("layout", ["inset", "right"])
def test_a_composition_shows_item_and_hook_as_they_are(layout: str, shop: Shop, context: PromotionContext) -> None:
    batch = cold_batch(shop)
    method = CompositingSemantic(layout="inset" if layout == "inset" else "right", hook="i12")
    moved = to_uint8(method(batch, context=context).pictures)
    ground = shop.pictures[[12] * 4] if layout == "inset" else shop.pictures[shop.cold]
    assert torch.equal(moved[:, :, :, :8], ground[:, :, :, :8]), "the left half is the ground's"
    assert not torch.equal(moved[:, :, :, 8:], ground[:, :, :, 8:])


def test_a_caption_is_written_at_the_bottom(shop: Shop, context: PromotionContext) -> None:
    batch = cold_batch(shop)
    plain, told = (CompositingSemantic(caption=text)(batch, context=context).pictures for text in ("", "abc"))
    assert torch.equal(plain[:, :, :12], told[:, :, :12])
    assert not torch.equal(plain[:, :, 12:], told[:, :, 12:])


def test_natural_pictures_come_from_a_folder_by_id(shop: Shop, context: PromotionContext, tmp_path: Path) -> None:
    batch = cold_batch(shop)
    write_png(tmp_path / "i9.png", np.full((20, 30, 3), 200, np.uint8))
    moved = NaturalSemantic(path=str(tmp_path))(batch, context=context).pictures
    place = batch.ids.index("i9")
    assert torch.allclose(moved[place], torch.tensor(200 / 255))
    others = [i for i in range(len(batch)) if i != place]
    assert torch.equal(moved[others], batch.pictures[others])
    assert NaturalSemantic(path=str(tmp_path)).fingerprint() != ""
    (tmp_path / "i9.png").rename(tmp_path / "unknown.png")
    with pytest.raises(DataError, match="no picture of a cold item"):
        NaturalSemantic(path=str(tmp_path))(batch, context=context)


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("insa(eps=8)", "8/255"),
        ("insa(steps=0)", "steps = 0"),
        ("insa(stolen=0)", "stolen"),
        ("expa(lr=0)", "lr = 0"),
        ("taamr(attack=cw)", "fgsm"),
        ("c-sema(share=0)", "share = 0"),
        ("c-sema(layout=left)", "inset"),
        ("n-sema", "path=FOLDER"),
    ],
)
def test_bad_settings_are_refused(spelled: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        METHODS.compose("move", spelled)


def test_an_unknown_hook_is_refused(shop: Shop, context: PromotionContext) -> None:
    with pytest.raises(ConfigError, match="hook = 'i99'"):
        Expa(hook="i99")(cold_batch(shop), context=context)
