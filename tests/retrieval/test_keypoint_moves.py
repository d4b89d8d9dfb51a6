"""Keypoint removal and injection, and how colours follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import LinearConstraint, minimize
from tests.retrieval.textures import texture
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.retrieval.keypoints import CONTRAST, detect, surviving
from countermove.retrieval.queries.fmd import Fmd
from countermove.retrieval.queries.ls import Ls
from countermove.retrieval.queries.ls_fmd import LsFmd
from countermove.retrieval.queries.rdg import Rdg
from countermove.retrieval.queries.rmd import Rmd
from countermove.retrieval.queries.rmd_ls import RmdLs
from countermove.retrieval.query import QueryContext, change, similarity
from countermove.retrieval.recolouring import gray_of, recoloured

MOVES: dict[str, Any] = {
    "rmd": Rmd(),
    "ls": Ls(),
    "fmd": Fmd(),
    "rmd-ls": RmdLs(),
    "ls-fmd": LsFmd(),
    "rdg": Rdg(rounds=4, octaves=(0, 1)),
}
each = pytest.mark.parametrize("move", MOVES.values(), ids=MOVES.keys())


def moved(move: Any, picture: Tensor) -> Tensor:
    return change(move, [picture], ["query"], context=QueryContext())[0]


def keypoints(picture: Tensor) -> Any:
    return detect(gray_of(picture).numpy())


# what every one of them does


@each
def test_a_move_changes_pictures_that_have_keypoints(move: Any) -> None:
    picture = texture()
    done = moved(move, picture)
    assert done.dtype == torch.uint8
    assert done.shape == picture.shape
    assert not torch.equal(done, picture)
    assert 0.5 < float(similarity(to_float(done)[None], to_float(picture)[None])) < 1
    assert move.surrogates() == ()
    assert move.norm is None


@each
@pytest.mark.parametrize("side", [1, 8, 33])
def test_pictures_without_keypoints_stay_as_they_are(move: Any, side: int) -> None:
    flat = torch.tensor([200, 30, 90], dtype=torch.uint8)[:, None, None].repeat(1, side, side)
    assert torch.equal(moved(move, flat), flat)


@each
def test_tiny_pictures_are_taken(move: Any) -> None:
    for height, width in ((8, 8), (9, 40), (5, 3)):
        picture = texture(height, width)
        assert moved(move, picture).shape == picture.shape


@each
def test_a_picture_is_changed_alike_alone_and_among_others(move: Any) -> None:
    pictures = [texture(48, 56, seed=i) for i in range(3)]
    state = torch.get_rng_state()
    together = change(move, pictures, ["a", "b", "c"], context=QueryContext())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(together[1], moved(move, pictures[1]))


@each
def test_gray_pictures_stay_gray(move: Any) -> None:
    gray = gray_of(texture()).expand(3, -1, -1).contiguous()
    for colour in ("minimum-norm", "ratio"):
        done = moved(replace(move, colour=colour), gray)
        assert torch.equal(done.amax(0), done.amin(0))


@each
def test_colours_follow_either_way(move: Any) -> None:
    picture = texture()
    exact, scaled = (gray_of(moved(replace(move, colour=c), picture)).int() for c in ("minimum-norm", "ratio"))
    assert (exact - scaled).abs().float().mean() < 1
    untouched = exact == gray_of(picture)
    assert torch.equal(moved(move, picture)[:, untouched], picture[:, untouched])


@each
def test_settings_are_checked(move: Any) -> None:
    bad: dict[str, list[Any]] = {
        "within": [0.0, -1.0],
        "margin": [-0.1, 3.5],
        "rounds": [0],
        "sigma": [0.0],
        "radius": [0],
        "colour": ["sepia"],
        "limit": [0.0],
        "octaves": [(), (-1,), (9,)],
    }
    for name, values in bad.items():
        for value in values if hasattr(move, name) else []:
            with pytest.raises(ConfigError, match="refused"):
                replace(move, **{name: value})


# what each of them is for


def test_removal_takes_weak_keypoints_and_leaves_strong_ones() -> None:
    picture = texture()
    before = keypoints(picture)
    after = keypoints(moved(Rmd(within=3, rounds=1), picture))
    weak = np.abs(before.value) <= CONTRAST + 3
    assert weak.sum() >= 10
    left = surviving(before, after)
    assert left[weak].mean() < 0.35
    assert left[~weak].mean() > 0.8


def test_removal_reaches_further_in_more_rounds() -> None:
    picture = texture()
    once, thrice = (len(keypoints(moved(Rmd(rounds=n), picture))) for n in (1, 3))
    assert thrice < once < len(keypoints(picture))


def test_forging_adds_keypoints_and_spares_those_that_are_there() -> None:
    picture = texture(strength=0.5)
    before, after = keypoints(picture), keypoints(moved(Fmd(within=2.5), picture))
    assert len(after) > 1.15 * len(before)
    assert surviving(before, after).mean() > 0.9
    candidates = detect(gray_of(picture).numpy(), contrast=CONTRAST - 2.5)
    candidates = candidates.where(np.abs(candidates.value) < CONTRAST)
    assert surviving(candidates, after).mean() > 0.3 + surviving(candidates, before).mean()


def test_smoothing_leaves_fewer_keypoints_the_more_often_it_is_done() -> None:
    picture = texture()
    counts = [len(keypoints(picture)), *(len(keypoints(moved(Ls(rounds=n), picture))) for n in (1, 3))]
    assert counts[0] > counts[1] > counts[2]


def test_combinations_do_one_after_the_other_on_the_luma() -> None:
    gray = gray_of(texture()).expand(3, -1, -1).contiguous()
    luma = {name: gray_of(moved(move, gray)) for name, move in MOVES.items()}
    smooth = gray_of(moved(Ls(), gray)).expand(3, -1, -1).contiguous()
    assert torch.equal(gray_of(moved(Fmd(), smooth)), luma["ls-fmd"])
    fewer = luma["rmd"].expand(3, -1, -1).contiguous()
    assert torch.equal(gray_of(moved(Ls(), fewer)), luma["rmd-ls"])


def test_extrema_of_any_weakness_are_not_forged() -> None:
    for method in (Fmd, LsFmd):
        with pytest.raises(ConfigError, match="at most 3"):
            method(within=3.4)


# colours


def noisy(seed: int, side: int = 40) -> tuple[Tensor, Tensor]:
    """Return random colours, many of them at the end of their range, and random lumas."""
    source = generator(seed, "colours")
    picture = torch.randint(-80, 336, (3, side, side), generator=source).clamp(0, 255).to(torch.uint8)
    return picture, torch.randint(0, 256, (side, side), generator=source).to(torch.uint8)


@given(st.integers(0, 1000), st.integers(0, 60))
def test_minimum_norm_has_exactly_the_luma(seed: int, step: int) -> None:
    picture, anything = noisy(seed, 12)
    old = gray_of(picture).int()
    for luma in (anything, (old + step).clamp(0, 255).to(torch.uint8), (old - step).clamp(0, 255).to(torch.uint8)):
        assert torch.equal(gray_of(recoloured(picture, luma, colour="minimum-norm")), luma)


def test_luma_is_what_pillow_has() -> None:
    picture, _ = noisy(1)
    theirs = np.asarray(Image.fromarray(picture.permute(1, 2, 0).numpy()).convert("L"))
    assert np.array_equal(gray_of(picture).numpy(), theirs)


def test_minimum_norm_is_the_least_change() -> None:
    """A general solver of the bounded least-squares problem finds nothing nearer than rounding explains."""
    picture, luma = noisy(2, 5)
    done = recoloured(picture, luma, colour="minimum-norm").double().flatten(1).T.numpy()
    weights = np.array([0.299, 0.587, 0.114])
    for start, found, wanted in zip(picture.double().flatten(1).T.numpy(), done, luma.flatten().tolist(), strict=True):
        best = minimize(
            lambda c, start=start: ((c - start) ** 2).sum(),
            np.clip(start, 1, 254),
            bounds=[(0, 255)] * 3,
            constraints=[LinearConstraint(weights, wanted, wanted)],
            method="SLSQP",
        )
        assert best.success
        assert np.linalg.norm(found - start) <= np.linalg.norm(best.x - start) + 1.8


def test_ratio_scales_all_channels_and_guards_black_and_white() -> None:
    picture = torch.tensor([[100, 0, 250], [60, 0, 200], [20, 0, 10]], dtype=torch.uint8)[:, :, None]
    luma = torch.tensor([[2 * 67], [9], [255]], dtype=torch.uint8)
    assert gray_of(picture)[0, 0] == 67
    done = recoloured(picture, luma, colour="ratio")[:, :, 0]
    assert done[:, 0].tolist() == [200, 120, 40]
    assert done[:, 1].tolist() == [9, 9, 9]
    assert done[:, 2].tolist() == [255, 255, 13]


def test_pixels_whose_luma_stays_are_untouched() -> None:
    picture, _ = noisy(3)
    for colour in ("minimum-norm", "ratio"):
        assert torch.equal(recoloured(picture, gray_of(picture), colour=colour), picture)


def test_lumas_of_other_sizes_are_refused() -> None:
    picture, luma = noisy(4)
    with pytest.raises(DataError, match="luma"):
        recoloured(picture, luma[1:], colour="ratio")
    with pytest.raises(DataError, match="picture"):
        gray_of(picture[0])
    assert torch.equal(to_uint8(to_float(picture)), picture)
