"""Error-minimising noise beyond what all poisons keep: solvers, patches, and pictures it was not made for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.nets.registry import build_network
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import quantize_move
from countermove.unlearnable.class_noise import class_noise, strongest
from countermove.unlearnable.descent import Descent, Loss, Solver
from countermove.unlearnable.methods import METHODS
from countermove.unlearnable.patches import cut, draw_places, places_by_id, put
from countermove.unlearnable.poison import Context
from countermove.unlearnable.poisons.error_minimizing import ErrorMinimizing
from countermove.unlearnable.views import View

TINY = "batch_size=8, batches=3, rounds=2, share=1.0, surrogate='small-cnn(width=0.1)'"


def made(settings: str) -> ErrorMinimizing:
    return METHODS.compose("move", f"error-minimizing({TINY}, {settings})").method


@pytest.fixture
def soft(pictures: Batch) -> Batch:
    """The made-up pictures away from the ends of the range, where no noise is cut."""
    return pictures.with_pictures(pictures.pictures * 0.5 + 0.25)


@pytest.fixture
def others(soft: Batch) -> Batch:
    """Pictures of the same classes that no poison was made for."""
    moved = (soft.pictures + 0.05 * torch.randn(soft.pictures.shape, generator=generator(4))).clamp(0.2, 0.8)
    return Batch(
        pictures=moved.flip(3), labels=soft.labels, ids=tuple(f"new-{i}" for i in range(24)), classes=soft.classes
    )


# The penalty form.


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3 * 4 * 4, generator=generator(1)))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def solved(solver: Solver, *, steps: int, penalty: float, eps: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the noise for a linear network on middle gray, and the gradient of equation 5 there, both [5, 3, 4, 4]."""
    network, y = Linear(), torch.tensor([0, 1, 2, 0, 1])
    x = torch.full((5, 3, 4, 4), 0.5)
    view = View(augment=False, generator=generator(0))
    loss = Loss(network=network, x=x, y=y, view=view, places=lambda: None, inside=True, context=Context(seed=0))
    noise = Descent(eps=eps, step=0.01, steps=steps, solver=solver, penalty=penalty)(loss, torch.zeros_like(x))
    leaf = noise.clone().requires_grad_(True)
    value = F.cross_entropy(network(x + leaf), y, reduction="sum") + penalty * leaf.square().sum()
    return noise, torch.autograd.grad(value, leaf)[0]


@pytest.mark.parametrize(("solver", "steps"), [("adam", 400), ("lbfgs", 60)])
def test_the_penalty_form_finds_the_minimum_of_a_convex_problem(solver: Solver, steps: int) -> None:
    noise, gradient = solved(solver, steps=steps, penalty=3.0)
    assert noise.abs().max() > 0.05
    assert gradient.abs().max() < 5e-3
    assert torch.allclose(noise, solved("lbfgs", steps=100, penalty=3.0)[0], atol=2e-3)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_larger_penalty_makes_smaller_noise_and_eps_cuts_it(solver: Solver) -> None:
    lengths = [float(solved(solver, steps=40, penalty=c)[0].norm()) for c in (0.5, 3.0, 20.0)]
    assert lengths[0] > lengths[1] > lengths[2] > 0
    free, limited = (solved(solver, steps=40, penalty=3.0, eps=eps)[0] for eps in (1.0, 0.03))
    assert free.abs().max() > 0.05
    assert torch.allclose(limited, free.clamp(-0.03, 0.03), atol=1e-6)


@pytest.mark.parametrize("solver", ["pgd", "adam", "lbfgs"])
@pytest.mark.parametrize("form", ["sample", "class"])
def test_every_solver_teaches_labels_where_pictures_show_none(solver: str, form: str, pictures: Batch) -> None:
    alike = pictures.with_pictures(0.48 + 0.04 * torch.rand(24, 3, 16, 16, generator=generator(9)))
    settings = f"form={form}, solver={solver}, steps=12, penalty=0.1, batch_size=8, batches=6, rounds=2, share=1.0"
    errors = []
    for eps in (16 / 255, 0.0):  # the same game without its noise
        context = Context(seed=0)
        spelled = f"error-minimizing({settings}, eps={eps}, augment=false, surrogate='small-cnn(width=0.25)')"
        METHODS.compose("move", spelled).method(alike, context=context)
        errors.append(context.meter.facts["surrogate_error"])
    assert errors[0] <= 0.1
    assert errors[1] > 0.4


# Patches.


def test_squares_are_put_and_cut_where_a_loop_would(soft: Batch) -> None:
    squares = torch.rand(24, 3, 5, 5, generator=generator(2))
    places = draw_places(24, 5, 16, 16, generator(3))
    assert places.amin() == 0
    assert places.amax() == 11
    canvas = torch.zeros(24, 3, 16, 16)
    for i, (row, column) in enumerate(places.tolist()):
        canvas[i, :, row : row + 5, column : column + 5] = squares[i]
    assert torch.equal(put(squares, places, 16, 16), canvas)
    assert torch.equal(cut(canvas, places, 5), squares)
    whole = soft.pictures
    assert torch.equal(cut(whole, places, 5)[7], whole[7, :, places[7, 0] :, places[7, 1] :][:, :5, :5])


def test_gradients_pass_through_squares() -> None:
    places = draw_places(2, 3, 5, 4, generator(1))
    squares = torch.rand(2, 3, 3, 3, dtype=torch.float64, generator=generator(2)).requires_grad_()
    pictures = torch.rand(2, 3, 5, 4, dtype=torch.float64, generator=generator(2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: put(x, places, 5, 4), squares)
    assert torch.autograd.gradcheck(lambda x: cut(x, places, 3), pictures)


def test_every_place_is_equally_likely() -> None:
    places = draw_places(9000, 2, 4, 4, generator(0))
    counts = torch.bincount(places[:, 0] * 3 + places[:, 1], minlength=9)
    assert counts.min() > 850
    assert counts.max() < 1150


@pytest.mark.parametrize("form", ["sample", "class"])
def test_patch_noise_covers_one_square_at_the_place_of_its_id(form: str, soft: Batch) -> None:
    noise = made(f"form={form}, patch=6, steps=3")(soft, context=Context(seed=8)).pictures - soft.pictures
    places = places_by_id(8, soft.ids, 6, 16, 16)
    squares = cut(noise, places, 6)
    assert torch.equal(put(squares, places, 16, 16), noise)
    assert (squares != 0).float().mean() > 0.7
    assert len(places.unique(dim=0)) > 10
    same = [torch.allclose(squares[soft.labels == k], squares[k], atol=1e-6) for k in range(3)]
    assert all(same) if form == "class" else not any(same)


def test_a_pictures_place_follows_its_id() -> None:
    few, many = places_by_id(0, ["b", "a"], 3, 9, 12), places_by_id(0, ["a", "x", "b"], 3, 9, 12)
    assert torch.equal(few, many[[2, 0]])


def test_patches_that_do_not_fit_are_refused(soft: Batch) -> None:
    with pytest.raises(DataError, match=r"a patch of 24 x 24 pixels does not fit on a picture of 16 x 16.*at most 16"):
        made("patch=24")(soft, context=Context(seed=0))
    with pytest.raises(ConfigError, match="patch and penalty are not negative"):
        made("patch=-8")


# On pictures that it was not made for.


def test_the_strongest_change_is_what_a_loop_finds() -> None:
    changes = torch.randn(7, 2, 3, generator=generator(5))
    labels = torch.tensor([2, 0, 2, 0, 2, 2, 0])
    found = strongest(changes, labels, 4)
    for k in (0, 2):
        for i in range(2):
            for j in range(3):
                own = changes[labels == k, i, j].tolist()
                assert float(found[k, i, j]) == max(own, key=abs)
    assert not found[[1, 3]].any()


@pytest.mark.parametrize("stored", [False, True], ids=["float", "8-bit"])
def test_class_noise_is_found_again_though_most_of_it_was_clipped(stored: bool, pictures: Batch) -> None:
    noise = (torch.rand(3, 3, 16, 16, generator=generator(1)) * 2 - 1) * 8 / 255
    noise = (noise * 255).round() / 255 if stored else noise
    ends = pictures.pictures.clone()
    ends[:9] = (ends[:9] > 0.5).float()  # half of the noise has no room on these
    clean = pictures.with_pictures(ends)
    moved = (ends + noise[clean.labels]).clamp(0, 1)
    if stored:
        moved = quantize_move(moved, ends, Ball(radius=8 / 255))
    assert float(((moved - ends)[:3] - noise).abs().max()) > 0.01
    assert torch.allclose(class_noise(clean, clean.with_pictures(moved)), noise, atol=1e-6)


@pytest.mark.parametrize("patch", [0, 7])
def test_class_wise_noise_goes_on_new_pictures_of_the_class(patch: int, soft: Batch, others: Batch) -> None:
    poison, context = made(f"form=class, patch={patch}"), Context(seed=1)
    moved = poison(soft, context=context)
    noise = moved.pictures - soft.pictures
    new = poison.on_test(others, clean=soft, moved=moved, context=context)
    assert new.ids == others.ids
    found = new.pictures - others.pictures
    if patch:
        found, noise = (
            cut(changes, places_by_id(1, batch.ids, patch, 16, 16), patch)
            for changes, batch in ((found, others), (noise, soft))
        )
    assert noise.abs().max() > 0
    assert torch.allclose(found, noise, atol=1e-6)  # both sets have the same order of labels


def test_sample_wise_noise_for_new_pictures_lowers_the_last_surrogates_loss(soft: Batch, others: Batch) -> None:
    poison, context = made("steps=4, step=2/255, augment=false, eps=16/255"), Context(seed=1)
    moved = poison(soft, context=context)
    network, rounds = poison._kept(context)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    spent = context.meter.samples
    new = poison.on_test(others, clean=soft, moved=moved, context=context)
    assert context.meter.samples - spent == rounds * 4 * len(others)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert float((new.pictures - others.pictures).abs().max()) <= 16 / 255 + 1e-6
    network.eval()
    with torch.no_grad():
        losses = [float(F.cross_entropy(network(batch.pictures), others.labels)) for batch in (others, new)]
    assert losses[1] < losses[0]


def test_a_context_that_did_not_make_the_noise_comes_to_the_same(soft: Batch, others: Batch) -> None:
    poison, first = made("steps=2"), Context(seed=1)
    moved = poison(soft, context=first)
    new, again = (
        poison.on_test(others, clean=soft, moved=moved, context=context).pictures
        for context in (first, Context(seed=1))
    )
    assert torch.equal(new, again)


@pytest.mark.parametrize("form", ["sample", "class"])
def test_error_maximising_noise_goes_on_new_pictures(form: str, soft: Batch, others: Batch) -> None:
    network = build_network("small-cnn(width=0.1)", 3, 16, generator(2))
    context = Context(seed=0, networks=lambda _: [network])
    poison = METHODS.compose("move", f"error-maximizing(form={form}, steps=2)").method
    moved = poison(soft, context=context)
    new = poison.on_test(others, clean=soft, moved=moved, context=context).pictures - others.pictures
    assert 0 < float(new.abs().max()) <= 8 / 255 + 1e-6
    if form == "class":
        assert torch.allclose(new, moved.pictures - soft.pictures, atol=1e-6)
    else:
        assert torch.equal(new, poison(others, context=context).pictures - others.pictures)
