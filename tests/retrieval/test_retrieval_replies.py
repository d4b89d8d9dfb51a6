"""What edits do to queries, what replies do to the plan, and the parts that they are made of."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.retrieval.textures import texture
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.game.methods import Methods
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.ssim import ssim
from countermove.retrieval import plan as plans
from countermove.retrieval.edits.recapture import _homography
from countermove.retrieval.plan import Adaptation, Expansion, Leak, Plan, Purification, Views, through
from countermove.retrieval.purifying import blank_purifier, fit_purifier, purify
from countermove.retrieval.scoring import averaged, expanded, found_first, leaked_rows, views_of

REPLIES = "countermove.retrieval.replies"
EDITS = "countermove.retrieval.edits"
QUERIES = "countermove.retrieval.queries"
COUNTERMOVES = {
    "none": f"{REPLIES}.none:NoReply",
    "resize": f"{EDITS}.resize:Resize",
    "crop": f"{EDITS}.crop:Crop",
    "jpeg": f"{EDITS}.jpeg:Jpeg",
    "blur": f"{EDITS}.blur:Blur",
    "recapture": f"{EDITS}.recapture:Recapture",
    "multi-crop": f"{REPLIES}.multi_crop:MultiCrop",
    "query-expansion": f"{REPLIES}.query_expansion:QueryExpansion",
    "ensemble": f"{REPLIES}.ensemble:Ensemble",
    "adapted": f"{REPLIES}.adapted:Adapted",
    "purifier": f"{REPLIES}.purifier:Purifier",
    "leaked": f"{REPLIES}.leaked:Leaked",
}
METHODS = Methods(
    "retrieval",
    {
        "countermove": COUNTERMOVES,
        "move": {"none": f"{QUERIES}.none:NoChange", "rmd": f"{QUERIES}.rmd:Rmd", "ls": f"{QUERIES}.ls:Ls"},
        # no engine is looked at here, so that anything that is spelled may stand for one
        "model": {"one": f"{QUERIES}.ls:Ls", "other": f"{QUERIES}.rmd:Rmd"},
    },
)
EDITED = [
    "resize",
    "resize(share=1.5)",
    "crop",
    "crop(share=0.4)",
    "jpeg",
    "jpeg(quality=30)",
    "blur",
    "blur(sigma=2.5)",
    "recapture",
    "recapture(blur=0, noise=0.1)",
]


@pytest.fixture(autouse=True)
def listed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies that name moves or engines find those of this file."""
    monkeypatch.setattr(plans, "load", lambda target: METHODS)


def plan(spelled: str) -> Plan:
    made = Plan()
    for part in METHODS.compose("countermove", spelled).parts:
        made = part.method(made)
    return made


def edited(spelled: str, picture: Tensor, name: str = "query", seed: int = 0) -> Tensor:
    return through(plan(spelled).edits, picture, name, seed)


# plans


PLANS = {
    "none": Plan(),
    "multi-crop": Plan(views=Views(crops=(1.0, 0.8, 0.6), scales=(1.0, 0.5), flip=True)),
    "multi-crop(crops=[0.5], flip=false, scales=[1.0])": Plan(views=Views(crops=(0.5,), scales=(1.0,), flip=False)),
    "query-expansion": Plan(expansion=Expansion(top=5, alpha=3.0)),
    "query-expansion(alpha=0, top=2)": Plan(expansion=Expansion(top=2, alpha=0)),
    "ensemble(engines=[other])": Plan(engines=("other",)),
    "ensemble(engines=['one(radius=5)'])+ensemble(engines=[other])": Plan(engines=("one(radius=5)", "other")),
    "adapted": Plan(adaptation=Adaptation(known=(), pictures=500, epochs=None, lr=None)),
    "adapted(epochs=2, known=[rmd, 'ls(radius=3)'], lr=0.01, pictures=9)": Plan(
        adaptation=Adaptation(known=("rmd", "ls(radius=3)"), pictures=9, epochs=2, lr=0.01)
    ),
    "purifier": Plan(
        purification=Purification(known=(), pictures=500, epochs=10, lr=2e-3, width=32, weight=0.01, indexed=False)
    ),
    "purifier(known=[rmd], on=all, weight=0, width=8)": Plan(
        purification=Purification(known=("rmd",), pictures=500, epochs=10, lr=2e-3, width=8, weight=0, indexed=True)
    ),
    "leaked": Plan(leaked=Leak(share=1.0, move="")),
    "leaked(move='ls(rounds=1)', share=0.5)+query-expansion": Plan(
        leaked=Leak(share=0.5, move="ls(rounds=1)"), expansion=Expansion(top=5, alpha=3.0)
    ),
}


@pytest.mark.parametrize("spelled", PLANS)
def test_a_reply_changes_its_part_of_the_plan_and_nothing_else(spelled: str) -> None:
    assert plan(spelled) == PLANS[spelled]


def test_every_reply_is_tested_here() -> None:
    spelled = [*PLANS, *EDITED]
    assert {part.name for text in spelled for part in METHODS.compose("countermove", text).parts} == set(COUNTERMOVES)


@pytest.mark.parametrize("spelled", [*PLANS, *EDITED])
def test_a_reply_is_spelled_and_read_back(spelled: str) -> None:
    first = METHODS.compose("countermove", spelled)
    assert METHODS.compose("countermove", first.spelling) == first


@pytest.mark.parametrize("spelled", EDITED)
def test_an_edit_is_of_queries_unless_all_are_meant(spelled: str) -> None:
    made = plan(spelled)
    assert (len(made.edits), len(made.indexed)) == (1, 0)
    name, _, rest = spelled.partition("(")
    if name in ("resize", "jpeg", "blur"):
        made = plan(f"{name}({rest.rstrip(')') + ', ' if rest else ''}on=all)")
        assert (len(made.edits), len(made.indexed)) == (1, 1)


@pytest.mark.parametrize(
    ("spelled", "says"),
    [
        ("resize(share=0)", "share"),
        ("resize(share=5)", "share"),
        ("resize(on=gallery)", "query"),
        ("crop(share=0)", "share"),
        ("crop(share=1.1)", "share"),
        ("jpeg(quality=0)", "quality"),
        ("blur(sigma=0.1)", "narrow"),
        ("recapture(warp=0.3)", "warp"),
        ("recapture(gamma=-1)", "gamma"),
        ("multi-crop(crops=[])", "crops"),
        ("multi-crop(crops=[2.0])", "share"),
        ("multi-crop(scales=[0.0])", "scales"),
        ("multi-crop+multi-crop", "twice"),
        ("query-expansion(top=0)", "result"),
        ("query-expansion+query-expansion", "twice"),
        ("ensemble", "engines"),
        ("ensemble(engines=[nothing])", "nothing"),
        ("ensemble(engines=[one, one])", "once"),
        ("ensemble(engines=[one])+ensemble(engines=[one])", "twice"),
        ("adapted(known=['none'])", "none"),
        ("adapted(known=[magic])", "magic"),
        ("adapted(epochs=0)", "above 0"),
        ("adapted+adapted", "twice"),
        ("purifier(width=0)", "above 0"),
        ("purifier+purifier", "twice"),
        ("leaked(share=0)", "share"),
        ("leaked(move='none')", "none"),
        ("leaked+leaked", "twice"),
    ],
)
def test_what_makes_no_sense_is_refused(spelled: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        plan(spelled)


# edits


@pytest.mark.parametrize("spelled", EDITED)
def test_an_edited_query_is_a_picture_and_the_same_every_time(spelled: str) -> None:
    picture = texture(48, 60)
    before, state = picture.clone(), torch.get_rng_state()
    done = edited(spelled, picture)
    assert done.dtype == torch.uint8
    assert done.ndim == 3
    assert not (done.shape == picture.shape and torch.equal(done, picture))
    assert torch.equal(picture, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(edited(spelled, picture), done)


@pytest.mark.parametrize("spelled", EDITED)
def test_tiny_queries_are_edited(spelled: str) -> None:
    for height, width in ((1, 1), (2, 8), (8, 8)):
        assert min(edited(spelled, texture(height, width)).shape) >= 1


@pytest.mark.parametrize("share", [0.5, 0.8, 1.5, 2.0])
def test_resizing_gives_pillows_picture(share: float) -> None:
    picture = texture(60, 84, strength=0.4)
    done = edited(f"resize(share={share})", picture)
    size = (round(84 * share), round(60 * share))
    assert done.shape == (3, size[1], size[0])
    theirs = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize(size, Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(theirs).astype(int) - done.permute(1, 2, 0).numpy())
    assert difference.mean() < (0.6 if share < 1 else 1.5)
    assert torch.equal(edited("resize(share=1)", picture), picture)


def test_the_middle_is_left() -> None:
    picture = texture(50, 80)
    assert torch.equal(edited("crop(share=0.6)", picture), picture[:, 10:40, 16:64])
    assert torch.equal(edited("crop(share=1)", picture), picture)


def test_jpeg_is_pillows() -> None:
    picture, buffer = texture(40, 56), io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=40)
    theirs = torch.from_numpy(np.asarray(Image.open(buffer)).copy()).permute(2, 0, 1)
    assert torch.equal(edited("jpeg(quality=40)", picture), theirs)


def test_blur_takes_what_is_fine_and_keeps_what_is_flat() -> None:
    fine = (128 + 100 * (-1.0) ** torch.arange(64)).to(torch.uint8).expand(3, 64, 64)
    assert (edited("blur(sigma=1.5)", fine).int()[:, 8:-8, 8:-8] - 128).abs().max() <= 2
    flat = torch.full((3, 20, 20), 90, dtype=torch.uint8)
    assert torch.equal(edited("blur", flat), flat)


def test_edits_apply_in_order() -> None:
    picture = texture()
    both = edited("crop(share=0.5)+jpeg(quality=20)", picture)
    assert torch.equal(both, edited("jpeg(quality=20)", edited("crop(share=0.5)", picture)))
    assert through((), picture, "query", 0) is picture


# recapture


def test_a_photo_of_a_picture_follows_its_id_and_the_seed() -> None:
    picture = texture()
    first = edited("recapture", picture, "a")
    assert first.shape == picture.shape
    assert not torch.equal(first, edited("recapture", picture, "b"))
    assert not torch.equal(first, edited("recapture", picture, "a", seed=1))
    assert 0.2 < float(ssim(to_float(first)[None], to_float(picture)[None])) < 0.95


def test_a_photo_from_the_front_in_focus_is_the_picture_in_jpeg() -> None:
    picture = texture()
    same = edited("recapture(blur=0, gamma=0, noise=0, quality=90, turn=0, warp=0)", picture)
    assert torch.equal(same, edited("jpeg(quality=90)", picture))


def test_corners_move_inwards_and_pictures_turn() -> None:
    """A bright middle stays in the middle; a bright corner is out of sight."""
    picture = torch.zeros(3, 101, 141, dtype=torch.uint8)
    picture[:, 46:55, 66:75] = 255
    picture[:, :3, :3] = 255
    done = edited("recapture(blur=0, gamma=0, noise=0, quality=95, turn=20, warp=0.1)", picture).float()[0]
    weight = done * (done > 100)
    y, x = (float((weight.sum(d) * torch.arange(weight.shape[1 - d])).sum() / weight.sum()) for d in (1, 0))
    assert abs(y - 50) < 8
    assert abs(x - 70) < 10
    assert done[:2, :2].max() < 100


def test_four_points_go_where_they_should() -> None:
    start = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    end = start + 0.2 * torch.rand(4, 2, generator=generator(0, "corners"), dtype=torch.float64)
    moved = torch.cat([start, torch.ones(4, 1, dtype=torch.float64)], 1) @ _homography(start, end).T
    assert torch.allclose(moved[:, :2] / moved[:, 2:], end)
    assert torch.allclose(_homography(start, start), torch.eye(3, dtype=torch.float64), atol=1e-12)


def test_noise_and_gamma_are_as_large_as_asked() -> None:
    flat = torch.full((3, 96, 96), 128, dtype=torch.uint8)
    only = "blur=0, quality=95, turn=0, warp=0"
    noisy = edited(f"recapture(gamma=0, noise=0.05, {only})", flat).float().mean(0) / 255
    assert 0.015 < float(noisy.std()) < 0.05, "the mean of three channels, after JPEG"
    values = [
        float(edited(f"recapture(gamma=0.5, noise=0, {only})", flat, str(i)).float().mean()) / 255 for i in range(9)
    ]
    assert max(values) > 0.53 > 0.47 > min(values)
    assert all((128 / 255) ** 1.5 - 0.01 <= value <= (128 / 255) ** (1 / 1.5) + 0.01 for value in values)


# scores


def test_views_are_crops_in_scales_and_their_mirror_images() -> None:
    picture = texture(40, 60)
    views = views_of(picture, Views(crops=(1.0, 0.5), scales=(1.0, 0.5), flip=True))
    assert [tuple(v.shape[1:]) for v in views] == [(40, 60), (20, 30), (20, 30), (10, 15)] * 2
    assert torch.equal(views[0], picture)
    assert torch.equal(views[2], picture[:, 10:30, 15:45])
    assert torch.equal(views[6], views[2].flip(2))
    assert len(views_of(picture, Views(crops=(1.0,), scales=(1.0,), flip=False))) == 1


def test_engines_of_any_scale_have_the_same_say() -> None:
    first = torch.rand(3, 20, generator=generator(0, "scores"))
    second = torch.rand(3, 20, generator=generator(1, "scores"))
    joined = averaged([first, second])
    assert torch.allclose(averaged([1000 * first - 7, second]), joined, atol=1e-4)
    assert torch.equal(averaged([first]).argsort(1), first.argsort(1))
    assert torch.allclose(averaged([first, torch.full((3, 20), 5.0)]), averaged([first]) / 2, atol=1e-5)
    z = [(s - s.mean(1, keepdim=True)) / s.std(1, keepdim=True, correction=0) for s in (first, second)]
    assert torch.allclose(joined, (z[0] + z[1]) / 2, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_expansion_ranks_as_the_average_of_descriptors_does(alpha: float) -> None:
    indexed = F.normalize(torch.randn(30, 8, generator=generator(0, "indexed")), dim=1)
    queries = F.normalize(torch.randn(4, 8, generator=generator(0, "queries")), dim=1)
    scores = queries @ indexed.T
    rows, weights = found_first(scores, Expansion(top=3, alpha=alpha), cosines=True)
    done = expanded(scores, (indexed @ indexed.T)[rows], weights)
    for q in range(4):
        best = scores[q].argsort(descending=True)[:3]
        joined = queries[q] + sum(scores[q, b].clamp(min=0) ** alpha * indexed[b] for b in best)
        assert torch.equal((indexed @ F.normalize(joined, dim=0)).argsort(), done[q].argsort())


def test_other_scores_are_weighed_between_median_and_best() -> None:
    scores = torch.tensor([[-9.0, -1.0, -5.0, -3.0, -7.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
    rows, weights = found_first(scores, Expansion(top=3, alpha=2.0), cosines=False)
    assert rows[0].tolist() == [1, 3, 2]
    assert torch.allclose(weights, torch.tensor([[1.0, 0.25, 0.0], [0.0, 0.0, 0.0]]))
    again = torch.rand(2, 3, 5, generator=generator(0, "again"))
    assert torch.equal(expanded(scores, again, weights)[1], scores[1])
    rows, weights = found_first(scores, Expansion(top=50, alpha=2.0), cosines=False)
    assert rows.shape == weights.shape == (2, 5)


def test_a_share_of_what_is_wanted_leaks() -> None:
    wanted = [torch.tensor([9, 3, 5, 7]), torch.tensor([2])]
    assert [rows.tolist() for rows in leaked_rows(wanted, 0.5)] == [[3, 5], []]
    assert [rows.tolist() for rows in leaked_rows(wanted, 1.0)] == [[3, 5, 7, 9], [2]]


# the purifier


ASKED = Purification(known=(), pictures=9, epochs=12, lr=5e-3, width=16, weight=0.01, indexed=False)


def pairs(shape: tuple[int, int] = (72, 80), count: int = 16) -> tuple[list[Tensor], list[Tensor]]:
    """Return smooth pictures, and the same with one pattern added that a filter can tell and take away."""
    clean = [texture(*shape, seed=i, strength=0.15) for i in range(count)]
    pattern = 24 * ((torch.arange(shape[0])[:, None] + torch.arange(shape[1])) % 2 * 2 - 1)
    return clean, [(c.int() + pattern).clamp(0, 255).to(torch.uint8) for c in clean]


class Means(nn.Module):
    """Descriptors in a line: the means of every channel's squares."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.square().mean((2, 3))


@pytest.mark.parametrize("describer", [None, Means()], ids=["pixels", "descriptors"])
def test_a_purifier_takes_a_pattern_away_and_leaves_clean_pictures(describer: nn.Module | None) -> None:
    clean, changed = pairs()
    network = blank_purifier(16, seed=0)
    assert torch.equal(purify(clean[0], network=network, device="cpu"), clean[0]), "nothing before training"
    state = torch.get_rng_state()
    seen = fit_purifier(network, describer, [*clean, *clean], [*changed, *clean], asked=ASKED, seed=0, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert seen == 12 * 32
    fresh, spoilt = pairs((90, 50), 3)
    for truth, given in zip(fresh, spoilt, strict=True):
        found = purify(given, network=network, device="cpu")
        assert found.shape == truth.shape
        assert (found.float() - truth).abs().mean() < 0.5 * (given.float() - truth).abs().mean()
        assert (purify(truth, network=network, device="cpu").float() - truth).abs().mean() < 6


def test_a_purifier_is_the_same_every_time_and_takes_any_size() -> None:
    clean, changed = pairs((20, 100), 5)
    fitted: list[Any] = []
    for _ in range(2):
        network = blank_purifier(4, seed=3)
        fit_purifier(network, None, clean, changed, asked=ASKED, seed=3, device="cpu")
        fitted.append(purify(changed[0], network=network, device="cpu"))
    assert torch.equal(*fitted)
    assert purify(texture(1, 1), network=blank_purifier(4, seed=0), device="cpu").shape == (3, 1, 1)


def test_a_purifier_needs_pairs() -> None:
    clean, changed = pairs((20, 20), 2)
    network = blank_purifier(4, seed=0)
    with pytest.raises(DataError, match="pairs"):
        fit_purifier(network, None, clean, changed[:1], asked=ASKED, seed=0, device="cpu")
    with pytest.raises(DataError, match="pairs"):
        fit_purifier(network, None, [], [], asked=ASKED, seed=0, device="cpu")
    with pytest.raises(DataError, match="is none of"):
        fit_purifier(network, None, clean, [c[:, 1:] for c in changed], asked=ASKED, seed=0, device="cpu")
    assert torch.equal(to_uint8(to_float(clean[0])), clean[0])
