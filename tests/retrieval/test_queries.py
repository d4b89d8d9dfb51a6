"""What every move on a query must keep, whoever wrote it; then what each of those on networks is for."""

from __future__ import annotations

import dataclasses
import pickle
import random
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.retrieval.made_scenes import scenes, taken, trained, view
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError
from countermove.game import spelling
from countermove.game.methods import build, load, read_sheet
from countermove.pixels.quick_ssim import QuickSsim
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.ssim import ssim
from countermove.retrieval.backbone import describe
from countermove.retrieval.methods import MOVES
from countermove.retrieval.query import Meter, QueryContext, change, similarity, stored


@dataclass(frozen=True)
class QueryRow:
    """A move with settings.

    random:  another seed gives another picture.
    unmoved: settings with which nothing is changed.
    ours:    there is no paper.
    """

    settings: str = ""
    random: bool = True
    unmoved: str = ""
    ours: bool = False


ROWS: dict[str, list[QueryRow]] = {
    "none": [QueryRow(random=False, unmoved="none", ours=True)],
    "noise": [
        QueryRow(unmoved="noise(ssim=1)", ours=True),
        QueryRow("like='pire-final(steps=3)'", unmoved="noise(like='pire-final(eps=0, steps=1)')"),
    ],
    "pire": [QueryRow("steps=4", unmoved="pire(eps=0, steps=3)"), QueryRow("output=plain, steps=3")],
    "pire-final": [
        QueryRow("steps=5", unmoved="pire-final(eps=0, steps=2)"),
        QueryRow("eps=5.5/255, floor=0, scales=[1, 0.7, 1.3], steps=6"),
        QueryRow("backbones=[target, plain], centred=false, momentum=0, steps=4"),
    ],
    "universal": [QueryRow("batch=4, steps=4, tile=16", unmoved="universal(eps=0, steps=2)")],
    "targeted": [QueryRow("steps=5", unmoved="targeted(eps=0, steps=2)")],
}
CASES = [(name, row) for name, rows in ROWS.items() for row in rows]


def compose(spelled: str) -> Any:
    (named,) = spelling.parse(spelled)
    return build(load(MOVES[named.name]), named.settings, what=f"move {named.name!r}")


QUERY_ROWS = scenes().queries
IDS = tuple(scenes().ids[row] for row in QUERY_ROWS.tolist())


def clean_pictures() -> Tensor:
    return to_float(torch.stack(taken(QUERY_ROWS)))


def context(method: Any, seed: int = 0) -> QueryContext:
    networks = tuple(trained(build) for build in range(len(method.surrogates())))
    return QueryContext(networks=networks, public=taken(scenes().public), seed=seed)


class Bench:
    """A move of the table on the made queries."""

    def __init__(self, name: str, row: QueryRow) -> None:
        self.name, self.row = name, row
        self.method = compose(f"{name}({row.settings})" if row.settings else name)

    def moved(self, pictures: Tensor | None = None, ids: tuple[str, ...] = IDS, seed: int = 0) -> Tensor:
        pictures = clean_pictures() if pictures is None else pictures
        return self.method(pictures, ids, context=context(self.method, seed))

    def saved(self, pictures: Tensor | None = None, ids: tuple[str, ...] = IDS) -> Tensor:
        pictures = clean_pictures() if pictures is None else pictures
        return stored(self.method, self.moved(pictures, ids), pictures)


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}({case[1].settings})")
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(*request.param)


def same(a: Tensor, b: Tensor, share: float = 0.03) -> bool:
    """Return whether 8-bit pictures agree but for what rounding in another order does to a few entries."""
    return a.shape == b.shape and float((a != b).double().mean()) < share


@pytest.mark.parametrize("name", ROWS)
def test_a_query_move_is_a_frozen_keyword_only_dataclass_with_a_version(name: str) -> None:
    cls: Any = load(MOVES[name])
    assert cls.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(cls))
    assert type(cls.version) is int
    assert cls.norm in {"linf", None}


@pytest.mark.parametrize("name", ROWS)
def test_the_sheet_of_a_query_move_names_the_paper_and_explains_every_setting(name: str) -> None:
    sheet = read_sheet(name, "move", "retrieval", MOVES[name])
    assert ROWS[name][0].ours or re.search(r"arXiv:\d{4}\.\d{4,5}|doi:", sheet.doc)
    told = [f for f, _, _ in sheet.fields if re.search(rf"^\s*(?:\w+, )*{f}(?:, \w+)*:\s+\S", sheet.doc, re.MULTILINE)]
    assert told == [field for field, _, _ in sheet.fields]


def test_a_query_move_is_the_same_after_pickling(bench: Bench) -> None:
    assert pickle.loads(pickle.dumps(bench.method)) == bench.method
    assert hash(bench.method) == hash(pickle.loads(pickle.dumps(bench.method)))


def test_numbers_that_no_query_move_takes_are_refused(bench: Bench) -> None:
    for field in dataclasses.fields(bench.method):
        value = getattr(bench.method, field.name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and field.name != "enough":
            for bad in ("-1", "-0.5", ".nan", "inf", "many"):
                with pytest.raises(ConfigError, match=rf"{field.name}|{bench.name}"):
                    compose(f"{bench.name}({field.name}={bad})")
    for bad in ("[]", "[plane]", "[none]"):
        if "backbones" in {field.name for field in dataclasses.fields(bench.method)}:
            with pytest.raises(ConfigError, match=bench.name):
                compose(f"{bench.name}(backbones={bad})")


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("pire(output=stretched)", "'refined' or 'plain'"),
        ("pire(steps=0)", "steps = 0"),
        ("pire-final(eps=20)", "20/255"),
        ("pire-final(scales=[0.7])", "own size"),
        ("pire-final(scales=[1, 9])", "0.1 to 4"),
        ("pire-final(jitter=1)", "jitter"),
        ("pire-final(floor=1)", "SSIM"),
        ("targeted(enough=2)", "enough"),
        ("universal(tile=4)", "8 pixels"),
        ("noise(like=noise)", "one other move"),
        ("noise(like='none+pire')", "one other move"),
        ("noise(like='pire(steps=0)')", "steps = 0"),
        ("noise(ssim=0)", "ssim"),
    ],
)
def test_bad_settings_of_a_query_move_are_refused(spelled: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compose(spelled)


def test_shapes_and_the_input_are_kept(bench: Bench) -> None:
    clean = clean_pictures()
    before = clean.clone()
    moved = bench.moved(clean)
    assert torch.equal(clean, before)
    assert moved.shape == clean.shape
    assert moved.dtype == torch.float32
    assert not moved.requires_grad
    assert moved.isfinite().all()
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_the_promised_radius_of_a_query_is_kept_after_a_png(bench: Bench, tmp_path: Any) -> None:
    clean, saved = to_uint8(clean_pictures()), bench.saved()
    read = []
    for number, picture in enumerate(saved):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
        read.append(torch.from_numpy(np.array(Image.open(tmp_path / f"{number}.png"))).permute(2, 0, 1))
    changed = (torch.stack(read).int() - clean.int()).abs().flatten(1).amax(1)
    if bench.name == "none":
        assert changed.max() == 0
        return
    assert changed.min() > 0, "the change died when it was saved with 8 bits"
    if bench.method.norm is not None:
        assert float(changed.max()) <= 255 * bench.method.eps + 1e-4


def test_queries_at_the_ends_of_the_range_stay_inside_it(bench: Bench) -> None:
    clean = (clean_pictures() > 0.5).float()
    moved = bench.moved(clean)
    assert moved.isfinite().all()
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_settings_without_strength_change_nothing(bench: Bench) -> None:
    if bench.row.unmoved:
        method = compose(bench.row.unmoved)
        clean = clean_pictures()
        assert torch.equal(stored(method, method(clean, IDS, context=context(method)), clean), to_uint8(clean))


def test_the_same_seed_gives_the_same_query_another_seed_another(bench: Bench) -> None:
    first, again, other = (bench.moved(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != bench.row.random


def test_a_query_follows_its_id_through_reordering_and_alone(bench: Bench) -> None:
    among = bench.saved()
    order = torch.randperm(len(IDS), generator=generator(0, "order"))
    assert same(bench.saved(clean_pictures()[order], tuple(IDS[i] for i in order.tolist())), among[order])
    assert same(bench.saved(clean_pictures()[3:4], IDS[3:4]), among[3:4])


def test_noise_of_a_query_follows_ids_and_not_places(bench: Bench) -> None:
    if bench.row.random and bench.name != "universal":
        assert not torch.equal(bench.moved(ids=tuple(f"x{i}" for i in range(len(IDS)))), bench.moved())


class Counting(nn.Module):
    """A network that counts the pixels that gradients go through, in pictures."""

    def __init__(self, inner: nn.Module, pixels: int) -> None:
        super().__init__()
        self.inner, self.pixels, self.pictures = inner, pixels, 0.0

    def forward(self, pictures: Tensor) -> Tensor:
        if torch.is_grad_enabled() and pictures.requires_grad:
            self.pictures += len(pictures) * pictures.shape[2] * pictures.shape[3] / self.pixels
        return self.inner(pictures)


def test_passes_on_queries_are_counted_as_they_are_made(bench: Bench) -> None:
    given = context(bench.method)
    pixels = getattr(bench.method, "tile", 24) ** 2
    counting = tuple(Counting(network, pixels) for network in given.networks)
    counted = dataclasses.replace(given, networks=counting, meter=Meter())
    bench.method(clean_pictures(), IDS, context=counted)
    made = sum(network.pictures for network in counting)
    assert made <= counted.meter.samples <= made + 0.5 * len(IDS) * len(counting) + 1e-6  # and half a pass to measure
    assert (counted.meter.samples > 0) == bool(counting)


def test_networks_and_the_global_states_are_untouched_by_queries(bench: Bench) -> None:
    given = context(bench.method)
    for network in given.networks:
        network.train()
        next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)).eval()
        next(network.parameters()).requires_grad_(False)
    before = [_state(network) for network in given.networks], _global_states()
    try:
        bench.method(clean_pictures(), IDS, context=given)
        assert ([_state(network) for network in given.networks], _global_states()) == before
        assert torch.is_grad_enabled()
    finally:
        for network in given.networks:
            network.eval().requires_grad_(True)


def _state(network: nn.Module) -> tuple[Any, ...]:
    return (
        {name: tensor.contiguous().numpy().tobytes() for name, tensor in network.state_dict().items()},
        [module.training for module in network.modules()],
        [(p.requires_grad, p.grad is None) for p in network.parameters()],
    )


def _global_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return torch.get_rng_state().tolist(), name, np.asarray(keys).tolist(), tuple(rest), random.getstate()


def test_a_move_without_its_network_says_so(bench: Bench) -> None:
    if bench.method.surrogates():
        with pytest.raises(DataError, match="no network"):
            bench.method(clean_pictures(), IDS, context=QueryContext(public=taken(scenes().public)))


# queries of several shapes


def test_queries_of_several_shapes_are_each_changed_as_if_alone() -> None:
    pictures = [view(0, 4), view(1, 4, 32), view(2, 4)[:, :, :17], view(3, 4)]
    method, ids = compose("pire-final(steps=4)"), ["a", "b", "c", "d"]
    together = change(method, pictures, ids, context=context(method))
    assert [picture.shape for picture in together] == [picture.shape for picture in pictures]
    for number in range(4):
        (alone,) = change(method, pictures[number : number + 1], ids[number : number + 1], context=context(method))
        assert same(together[number], alone)
        assert not torch.equal(alone, pictures[number])
    with pytest.raises(DataError, match="every query has its own"):
        change(method, pictures, ["a", "a", "b", "c"], context=context(method))


@pytest.mark.parametrize("shape", [(8, 8), (8, 200)])
def test_tiny_and_panoramic_queries_are_changed(shape: tuple[int, int]) -> None:
    picture = torch.randint(0, 256, (3, *shape), generator=generator(0, "tiny"), dtype=torch.uint8)
    for spelled in ("pire(steps=2)", "pire-final(steps=2)", "universal(steps=2)", "targeted(steps=2)"):
        method = compose(spelled)
        (moved,) = change(method, [picture], ["tiny"], context=context(method))
        assert moved.shape == picture.shape
        assert not torch.equal(moved, picture)
    with pytest.raises(DataError, match="11 x 11"):
        change(compose("noise"), [picture], ["tiny"], context=QueryContext())


# what each is for


def likeness(moved: Tensor, build: int = 0) -> Tensor:
    """Return the cosine of saved queries' descriptors to those of the clean ones, [N]."""
    own = describe(trained(build), list(to_uint8(clean_pictures())))
    return (describe(trained(build), list(moved)) * own).sum(1)


def test_the_published_output_has_eleven_levels_and_the_random_start() -> None:
    change_of = torch.tensor([0.0, 1e-6, -1e-6, 10 / 255, -10 / 255, 0.02])
    sent = compose("pire").sent(change_of)
    assert torch.allclose(sent, torch.tensor([0.0, 0.032, -0.032, 0.352, -0.352, 0.192]))
    assert torch.allclose(compose("pire(output=plain)").sent(change_of), 10 * change_of)
    change = (to_float(Bench("pire", ROWS["pire"][0]).saved()) - clean_pictures()).abs()
    assert change.max() <= 0.352 * 0.229 + 0.5 / 255 + 1e-6
    assert change.max() > 0.9 * 0.352 * 0.229


def test_published_pire_is_adam_written_out_again() -> None:
    """One picture, a loop over the rounds, the moments kept by hand."""
    from countermove.pixels.randomness import per_sample

    network, x = trained(), clean_pictures()[:1]
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    v = 10 / 255 * per_sample(0, "pire", IDS[:1], lambda g: 2 * torch.rand(3, 24, 24, generator=g) - 1)
    first, second = torch.zeros_like(v), torch.zeros_like(v)
    for t in range(1, 4):
        v = v.clamp(-10 / 255, 10 / 255).requires_grad_()
        loss = -(network(x + std * v) - network(x)).pow(2).sum()
        (g,) = torch.autograd.grad(loss, v)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        v = v.detach() - 1e-4 * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
    sent = x + std * v.clamp(-10 / 255, 10 / 255) * 10
    ours = compose("pire(output=plain, steps=3)")(x, IDS[:1], context=context(compose("pire")))
    assert (ours - sent.clamp(0, 1)).abs().max() < 2e-3


def test_pire_keeps_the_colours_of_the_picture() -> None:
    moved = Bench("pire", ROWS["pire"][0]).moved()
    apart = (moved - clean_pictures()).mean((2, 3)).abs()
    assert float(apart.max()) < 3 / 255


def test_pire_final_goes_further_than_published_pire_and_noise_at_a_better_ssim() -> None:
    clean, found = clean_pictures(), {}
    for spelled in ("pire(steps=100)", "pire-final(steps=20)", "noise(like='pire-final(steps=20)')"):
        method = compose(spelled)
        saved = stored(method, method(clean, IDS, context=context(method)), clean)
        found[method.__class__.__name__] = (
            float(likeness(saved).mean()),
            float(similarity(to_float(saved), clean).mean()),
        )
    assert found["PireFinal"][0] < found["Pire"][0] - 0.05
    assert found["PireFinal"][0] < found["MatchedNoise"][0] - 0.1
    assert found["PireFinal"][1] >= found["Pire"][1]


@pytest.mark.parametrize("shape", [(11, 11), (24, 40)])
def test_the_quick_ssim_is_the_usual_one(shape: tuple[int, int]) -> None:
    clean = torch.rand(3, 3, *shape, generator=generator(0, "clean"))
    clean[2] = 0.98
    moved = (clean + 0.1 * torch.randn(clean.shape, generator=generator(0, "noise"))).clamp(0, 1)
    rows = torch.tensor([2, 0])
    assert torch.allclose(QuickSsim(clean)(moved[rows], rows), ssim(moved, clean)[rows], atol=2e-5)


def test_pire_final_keeps_the_ssim_of_every_picture() -> None:
    flat = torch.full((2, 3, 24, 24), 0.5)
    clean = torch.cat([clean_pictures()[:2], to_float(to_uint8(flat))])
    for floor in (0.7, 0.9):
        method = compose(f"pire-final(floor={floor}, steps=6)")
        saved = stored(method, method(clean, ("a", "b", "c", "d"), context=context(method)), clean)
        assert (similarity(to_float(saved), clean) >= floor).all()
        assert (to_float(saved) - clean).abs().flatten(1).amax(1).min() > 0


def test_pire_final_stops_where_it_is_enough() -> None:
    method = compose("pire-final(enough=0.9, steps=30)")
    given = context(method)
    saved = stored(method, method(clean_pictures(), IDS, context=given), clean_pictures())
    own, centre = describe(trained(), list(to_uint8(clean_pictures()))), given.centre()
    way = own - centre
    left = ((describe(trained(), list(saved)) - centre) * way).sum(1) / way.square().sum(1)
    assert (left <= 0.9 + 1e-4).all()
    assert given.meter.samples < 15 * len(IDS)


def test_seen_from_the_centre_queries_find_less() -> None:
    """At equal strength: what counts is the rank of what should be found, not the angle to the clean picture."""
    index = describe(trained(), taken(scenes().indexed))
    found = {}
    for centred in ("true", "false"):
        method = compose(f"pire-final(centred={centred}, enough=-9, steps=15)")
        saved = stored(method, method(clean_pictures(), IDS, context=context(method)), clean_pictures())
        scores = describe(trained(), list(saved)) @ index.T
        positive = torch.block_diag(*[torch.ones(1, 4)] * 8).bool()
        found[centred] = float(scores[positive].mean() - scores[~positive].mean())
    assert found["true"] < found["false"]


def test_several_scales_hold_at_half_size() -> None:
    clean = clean_pictures()
    own = describe(trained(), list(to_uint8(clean)))
    found = []
    for scales in ("[1]", "[1, 0.5]"):
        method = compose(f"pire-final(eps=12/255, enough=-9, jitter=0, scales={scales}, steps=24)")
        moved = method(clean, IDS, context=context(method))
        half = nn.functional.interpolate(moved, (12, 12), mode="bilinear", antialias=True)
        found.append(float((describe(trained(), list(to_uint8(half))) * own).sum(1).mean()))
    assert found[1] < found[0]


def test_noise_has_the_ssim_asked_for_and_that_of_another_move() -> None:
    clean = clean_pictures()
    for asked in (0.6, 0.9):
        saved = Bench("noise", QueryRow(f"ssim={asked}")).saved()
        measured = similarity(to_float(saved), clean)
        assert (measured >= asked).all()
        assert (measured < asked + 0.02).all()
    other = compose("pire-final(steps=3)")
    theirs = similarity(other(clean, IDS, context=context(other)), clean)
    ours = similarity(to_float(Bench("noise", ROWS["noise"][1]).saved()), clean)
    assert (ours - theirs).abs().max() < 0.02


def test_a_universal_change_is_one_change_and_is_made_once() -> None:
    method = compose("universal(floor=0, steps=10, tile=16)")
    given = context(method)
    clean = 0.25 + 0.5 * clean_pictures()
    change = method(clean, IDS, context=given) - clean
    assert torch.allclose(change, change[:1].expand_as(change), atol=1e-6)
    assert torch.allclose(change[:, :, :16, :8], change[:, :, :16, 16:], atol=1e-6)
    spent = given.meter.samples
    method(clean, IDS, context=given)
    assert given.meter.samples == spent
    with pytest.raises(DataError, match="public"):
        method(clean, IDS, context=dataclasses.replace(given, public=(), made={}))


def test_a_universal_change_moves_pictures_that_it_was_not_made_on_more_than_noise() -> None:
    moved = likeness(Bench("universal", QueryRow("floor=0, steps=60, tile=24")).saved()).mean()
    signs = torch.randint(0, 2, (1, 3, 24, 24), generator=generator(0, "signs")) * 2.0 - 1
    noisy = likeness(to_uint8((clean_pictures() + 20 / 255 * signs).clamp(0, 1))).mean()
    assert moved < noisy - 0.05


def test_a_targeted_query_comes_nearer_to_its_goal() -> None:
    method = compose("targeted(steps=20)")
    given, clean = context(method), clean_pictures()
    goals = describe(trained(), [given.public[row] for row in method.goals(IDS, given)])
    before = (describe(trained(), list(to_uint8(clean))) * goals).sum(1)
    after = (describe(trained(), list(stored(method, method(clean, IDS, context=given), clean))) * goals).sum(1)
    assert (after > before).all()
    assert float((after - before).mean()) > 0.1
    with pytest.raises(DataError, match="public"):
        method(clean, IDS, context=dataclasses.replace(given, public=()))
