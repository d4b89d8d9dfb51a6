"""What every pivot must keep, whoever wrote it; then what each of them is for."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.profiles.tiny_profiles import tiny
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.rounding import to_float, to_uint8
from countermove.profiles.artifacts import likeness
from countermove.profiles.crafting import BagLoss, Limit, ascend
from countermove.profiles.dataset import Medium, Profiles, as_float
from countermove.profiles.extractor import extract, read_extractor
from countermove.profiles.fitting import fit_bags, read_bags
from countermove.profiles.methods import METHODS, MOVES
from countermove.profiles.pivot import Additions, PivotContext, extended, positions
from countermove.profiles.profiler import Reader
from countermove.profiles.profilers.gru import Gru
from countermove.profiles.sound import snr

LOOKS: dict[Medium, str] = {
    "picture": "small(epochs=2, network='small-cnn(width=0.25)')",
    "speech": "log-mel(bands=8)",
    "table": "table",
}


@dataclass(frozen=True)
class PivotRow:
    """A pivot with settings. random: another seed gives other additions."""

    settings: str = ""
    media: tuple[Medium, ...] = ("picture", "speech")
    random: bool = True
    model: str = "deep-sets"


ALL: tuple[Medium, ...] = ("picture", "speech", "table")
NEAR = "box=near-black, features='{looks}'"
ROWS: dict[str, list[PivotRow]] = {
    "none": [PivotRow(media=ALL, random=False)],
    "random-noise": [PivotRow(), PivotRow("additions=0.5, place=start")],
    "random-items": [PivotRow(media=ALL), PivotRow("like=same, place=alternate", media=ALL)],
    "adv-n": [
        PivotRow("steps=3"),
        PivotRow("additions=1.5, box=gray, place=alternate, steps=2", model="gru"),
        PivotRow("attention=0.2, steps=2", model="att-mil"),
        PivotRow(f"{NEAR}, steps=2"),
        PivotRow("shared=true, steps=2", media=("picture",)),
    ],
    "adv-pi": [
        PivotRow("steps=3"),
        PivotRow("eps=5.5/255, like=same, snr=12, step=5/255, steps=2", model="set-transformer"),
        PivotRow(f"additions=0.4, {NEAR}, steps=2"),
    ],
    "nat-i": [
        PivotRow("pool=0.9", media=ALL),
        PivotRow("choice=best", media=ALL, random=False),
        PivotRow("choice=greedy, like=same", media=ALL, random=False),
        PivotRow("choice=greedy", media=("picture",), random=False, model="set-transformer"),
        PivotRow(f"additions=2, {NEAR}", media=ALL, random=False),
    ],
    "several": [
        PivotRow(
            "pivots=['nat-i(additions=0.4, choice=best, place=start)', 'nat-i(additions=0.4, pool=0.9)']", media=ALL
        ),
        PivotRow("pivots=['adv-pi(additions=0.4, steps=2)', 'random-items(additions=0.7, place=alternate)']"),
    ],
    "poisoned-training": [PivotRow("pivot='nat-i(choice=best)'", media=ALL, random=False)],
}
CASES = [(name, row, medium) for name, rows in ROWS.items() for row in rows for medium in row.media]


@cache
def profiles_of(medium: Medium) -> Profiles:
    return tiny(medium)


@cache
def reader_of(medium: Medium, model: str) -> Reader:
    """Return a profiler that was trained on the tiny profiles."""
    torch.set_num_threads(1)
    data = profiles_of(medium)
    network, _ = read_extractor(LOOKS[medium], "test")[1].fit(data, seed=0, device="cpu")
    profiler = METHODS.compose("model", f'{model}(epochs=15, features="{LOOKS[medium]}")').method
    bag = profiler.network(network.dim, 2, generator=torch.Generator().manual_seed(1))
    features = extract(network, data.items, medium)
    bags = [data.bags[row] for row in data.train.tolist()]
    fit_bags(Reader(bag), features, bags, data.labels[data.train], recipe=profiler.recipe(), seed=0, medium=medium)
    return Reader(bag, network).eval()


class Bench:
    """A pivot of the table on the tiny profiles."""

    def __init__(self, name: str, row: PivotRow, medium: Medium) -> None:
        self.data, self.medium, self.row = profiles_of(medium), medium, row
        settings = row.settings.format(looks=LOOKS[medium].replace("'", '"'))
        self.method: Any = METHODS.compose("move", f"{name}({settings})" if settings else name).method
        self.reader = reader_of(medium, row.model)

    def context(self, seed: int = 0) -> PivotContext:
        known = self.method.knows()
        near = known is not None and known.box == "near-black"
        body: Any = self.reader.body
        return PivotContext(reader=None if near else self.reader, network=body if near else None, seed=seed)

    def added(self, movers: Tensor | None = None, seed: int = 0) -> Additions:
        return self.method(self.data, self.data.test if movers is None else movers, context=self.context(seed))


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}({case[1].settings})-{case[2]}")
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(*request.param)


def same(a: Additions, b: Additions) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("items", "mover", "source", "when"))


def test_the_table_has_every_pivot() -> None:
    assert set(ROWS) == set(MOVES)


def test_additions_are_items_of_the_set_in_number_and_time_as_asked(bench: Bench) -> None:
    added, data, method = bench.added(), bench.data, bench.method
    assert added.items.dtype == data.items.dtype
    assert added.items.shape == (len(added), *data.items.shape[1:])
    if hasattr(method, "pivots"):
        return  # each has its own number and time; see below
    inner = METHODS.compose("move", method.pivot).method if hasattr(method, "pivot") else method
    asked = getattr(inner, "additions", 0.0)
    for number, row in enumerate(data.test.tolist()):
        mine = added.when[added.mover == number].tolist()
        length = len(data.bags[row])
        count = max(1, round(asked * length)) if asked else 0
        assert mine == positions(length, count, getattr(inner, "place", "end"))


def test_the_same_seed_adds_the_same_and_another_other_items(bench: Bench) -> None:
    first = bench.added(seed=3)
    assert same(first, bench.added(seed=3))
    assert same(first, bench.added(seed=4)) is not bench.row.random or not len(first)


def test_what_a_mover_adds_does_not_depend_on_who_else_moves(bench: Bench) -> None:
    if getattr(bench.method, "shared", False):
        return
    whole, some = bench.added(), bench.added(bench.data.test[[2, 0]])
    for number, before in ((0, 2), (1, 0)):
        theirs, mine = whole.items[whole.mover == before], some.items[some.mover == number]
        if bench.medium == "speech":  # products of other shapes differ in the last bits
            assert (theirs.int() - mine.int()).abs().float().mean() < 2 if len(mine) else len(theirs) == 0
        else:
            assert torch.equal(theirs, mine)


def test_nothing_else_is_changed(bench: Bench) -> None:
    items, weights = bench.data.items.clone(), [p.clone() for p in bench.reader.parameters()]
    buffers, modes = [b.clone() for b in bench.reader.buffers()], [m.training for m in bench.reader.modules()]
    wanted = [p.requires_grad for p in bench.reader.parameters()]
    torch.manual_seed(5)
    state, other, third = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    bench.added()
    assert torch.equal(bench.data.items, items)
    assert all(map(torch.equal, bench.reader.parameters(), weights))
    assert all(map(torch.equal, bench.reader.buffers(), buffers))
    assert [m.training for m in bench.reader.modules()] == modes
    assert [p.requires_grad for p in bench.reader.parameters()] == wanted
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == other
    assert str(np.random.get_state()) == third


def test_changed_items_stay_inside_their_budget_as_they_are_stored(bench: Bench) -> None:
    added, method = bench.added(), bench.method
    if not bench.method.changes or bool((added.source < 0).any()) or hasattr(method, "pivots"):
        return
    clean = bench.data.items[added.source]
    if bench.medium == "picture":
        change = (added.items.int() - clean.int()).abs().flatten(1).amax(1)
        assert (change <= int(method.eps * 255 + 1e-6)).all()
        assert (change > 0).any()
    else:
        assert (snr(as_float(clean, "speech"), as_float(added.items, "speech")) >= method.snr - 1e-6).all()
        assert not torch.equal(added.items, clean)


def test_items_that_are_chosen_are_the_backgrounds(bench: Bench) -> None:
    added, data = bench.added(), bench.data
    if bench.method.changes or not len(added):
        return
    assert torch.equal(added.items, data.items[added.source])
    assert torch.isin(added.source, data.background).all()
    for number in range(len(data.test)):
        mine = added.source[added.mover == number]
        assert len(mine.unique()) == len(mine) or hasattr(bench.method, "pivots")
        if getattr(bench.method, "like", "any") == "same":
            label = data.labels[data.test[number]]
            assert torch.isin(mine, data.background[data.kinds == label]).all()


@pytest.mark.parametrize("medium", ["picture", "speech"])
def test_a_radius_of_nothing_changes_nothing(medium: Medium) -> None:
    settings = "eps=0, steps=2" if medium == "picture" else "snr=120, steps=2"
    added = Bench("adv-pi", PivotRow(settings), medium).added()
    assert (added.items.int() - profiles_of(medium).items[added.source].int()).abs().max() <= (medium == "speech")


@pytest.mark.parametrize("model", ["deep-sets", "att-mil", "set-transformer", "gru", "majority-vote"])
def test_the_white_box_raises_the_loss_of_the_extended_profile(model: str) -> None:
    bench = Bench("adv-n", PivotRow("eps=64/255, step=16/255, steps=8", model=model), "picture")
    control = Bench("random-noise", PivotRow(model=model), "picture")
    data = bench.data

    def loss(added: Additions) -> float:
        body: Any = bench.reader.body
        features = extract(body, torch.cat([data.items, added.items]), "picture")
        seen, _ = read_bags(Reader(bench.reader.bag), features, extended(data, data.test, added), medium="picture")
        own = seen.gather(1, data.labels[data.test][:, None])
        return float(-own.clamp(min=1e-9).log().mean())

    assert loss(bench.added()) > loss(control.added()) - 1e-6


def test_greedy_sets_are_at_least_as_strong_as_the_best_items_alone() -> None:
    losses = {}
    for choice in ("best", "greedy"):
        bench = Bench("nat-i", PivotRow(f"choice={choice}"), "picture")
        added, data = bench.added(), bench.data
        body: Any = bench.reader.body
        features = extract(body, torch.cat([data.items, added.items]), "picture")
        bags = extended(data, data.test, added)
        rows = [features[bag][None] for bag in bags]
        with torch.no_grad():
            whole = [torch.ones(1, row.shape[1], dtype=torch.bool) for row in rows]
            logits = torch.cat([bench.reader.bag(row, mask) for row, mask in zip(rows, whole, strict=True)])
        losses[choice] = float(F.cross_entropy(logits, data.labels[data.test]))
    assert losses["greedy"] >= losses["best"] - 1e-4


def test_the_near_black_box_takes_the_least_similar_items() -> None:
    bench = Bench("nat-i", PivotRow(NEAR), "picture")
    added, data = bench.added(), bench.data
    body: Any = bench.reader.body
    features = F.normalize(extract(body, data.items, "picture"))
    for number, row in enumerate(data.test.tolist()):
        similar = (features[data.bags[row]] @ features[data.background].T).mean(0)
        wanted = data.background[similar.argsort()[: len(data.bags[row])]]
        assert set(added.source[added.mover == number].tolist()) == set(wanted.tolist())


def test_several_pivots_are_those_of_each_alone() -> None:
    one, other = "nat-i(additions=0.4, choice=best, place=start)", "random-items(additions=0.7)"
    both = Bench("several", PivotRow(f"pivots=['{one}', '{other}']"), "picture").added()
    alone = [
        Bench(name, PivotRow(settings), "picture").added()
        for name, _, settings in (
            ("nat-i", "", "additions=0.4, choice=best, place=start"),
            ("random-items", "", "additions=0.7"),
        )
    ]
    for number in range(len(profiles_of("picture").test)):
        wanted = torch.cat([part.source[part.mover == number] for part in alone])
        when = torch.cat([part.when[part.mover == number] for part in alone])
        assert torch.equal(both.source[both.mover == number], wanted)
        assert torch.equal(both.when[both.mover == number], when)


@pytest.mark.parametrize(
    "pivots", ["[nat-i]", "[nat-i, none]", "[nat-i, 'nat-i(box=gray)']", "[nat-i, poisoned-training]"]
)
def test_pivots_that_do_not_go_together_are_refused(pivots: str) -> None:
    with pytest.raises(ConfigError, match="several"):
        _ = METHODS.compose("move", f"several(pivots={pivots})").method


def test_shared_additions_are_the_same_for_everybody_of_a_value() -> None:
    bench = Bench("adv-n", PivotRow("shared=true, steps=2"), "picture")
    added, labels = bench.added(), bench.data.labels[bench.data.test].tolist()
    by_mover = [added.items[added.mover == number] for number in range(len(labels))]
    for a, first in enumerate(labels):
        for b, second in enumerate(labels):
            assert torch.equal(by_mover[a], by_mover[b]) is (first == second)


def test_an_attention_budget_is_refused_where_nothing_weighs_items() -> None:
    with pytest.raises(ConfigError, match="weigh"):
        Bench("adv-n", PivotRow("attention=0.2, steps=1"), "picture").added()


def test_tables_hold_no_items_that_could_be_made() -> None:
    for name in ("adv-n", "adv-pi", "random-noise"):
        with pytest.raises(ConfigError, match="nat-i"):
            Bench(name, PivotRow(), "table").added()


def test_more_additions_than_candidates_are_refused() -> None:
    with pytest.raises(DataError, match="8 items that may be added, 15 are asked for"):
        Bench("nat-i", PivotRow("additions=5"), "picture").added()


def test_extended_profiles_are_in_the_order_of_time() -> None:
    data = profiles_of("picture")
    bag = data.bags[int(data.test[0])].tolist()
    first = len(data.items)
    added = Additions(
        items=data.items[:3], mover=torch.tensor([0, 0, 0]), source=torch.arange(3), when=torch.tensor([0, 2, 3])
    )
    found = extended(data, data.test[:1], added)[0].tolist()
    assert found == [first, bag[0], bag[1], first + 1, bag[2], first + 2]


@pytest.mark.parametrize(
    ("length", "count", "place", "found"),
    [(3, 2, "end", [3, 3]), (3, 2, "start", [0, 0]), (4, 4, "alternate", [1, 2, 3, 4]), (4, 2, "alternate", [2, 4])],
)
def test_positions(length: int, count: int, place: str, found: list[int]) -> None:
    assert positions(length, count, place) == found


@pytest.mark.parametrize("width", [0, 5])
def test_the_bag_loss_is_the_cross_entropy_of_the_whole_profile_in_its_order(width: int) -> None:
    data, reader = profiles_of("picture"), reader_of("picture", "gru")
    sources = torch.tensor([[0, -1], [1, 2], [-1, -1], [3, 0]])
    if width:
        data = replace(data, captions=torch.rand(len(data.items), width, generator=torch.Generator().manual_seed(1)))
        body: Any = reader.body
        reader = Reader(Gru().network(body.dim + width, 2, generator=torch.Generator().manual_seed(2)), body).eval()
    source = torch.Generator().manual_seed(0)
    items = to_float(to_uint8(torch.rand(len(data.test), 2, *data.items.shape[1:], generator=source)))
    there = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    loss = BagLoss(data, data.test, reader, sources=sources, place="alternate", attention=None, device="cpu")
    with torch.no_grad():
        found = loss(items, there, torch.arange(len(data.test)))
    body = reader.body
    for number, row in enumerate(data.test.tolist()):
        count = int(there[number].sum())
        own = extract(body, data.items[data.bags[row]], "picture")
        more = extract(body, to_uint8(items[number, :count]), "picture")
        if width:
            nothing = torch.zeros(width)
            kept = [nothing if at < 0 else data.captions[at] for at in sources[number, :count].tolist()]
            own = torch.cat([own, data.captions[data.bags[row]]], dim=1)
            more = torch.cat([more, torch.stack(kept)], dim=1)
        order = sorted(
            [(i + 0.5, own[i]) for i in range(len(own))]
            + [(at, more[k]) for k, at in enumerate(positions(len(own), count, "alternate"))],
            key=lambda pair: pair[0],
        )
        whole = torch.stack([feature for _, feature in order])[None]
        with torch.no_grad():
            logits = reader.bag(whole, torch.ones(1, whole.shape[1], dtype=torch.bool))
        wanted = F.cross_entropy(logits, data.labels[row : row + 1])
        assert float(found[number]) == pytest.approx(float(wanted), abs=1e-4)


def test_ascent_climbs_a_known_hill() -> None:
    goal = torch.rand(2, 3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    start = torch.full_like(goal, 0.5)

    def near(items: Tensor, there: Tensor, movers: Tensor) -> Tensor:
        return -((items - goal[movers]).abs().flatten(2).sum(2) * there).sum(1)

    limit = Limit(medium="picture", eps=0.2, snr=20, step=0.05, steps=10)
    context = PivotContext()
    there = torch.tensor([[True, True, True], [True, False, False]])
    moved = ascend(start, there, limit, near, groups=torch.arange(2), context=context)
    wanted = goal.clamp(0.3, 0.7)
    assert (moved - wanted)[there].abs().max() <= 0.05 + 1e-6
    assert torch.equal(moved[1, 1:], start[1, 1:])
    assert context.meter.samples == 10 * 4


def test_likeness_is_of_what_additions_were_made_from() -> None:
    data = profiles_of("picture")
    natural = Bench("nat-i", PivotRow(), "picture").added()
    assert likeness(data, natural) == {}
    noisy = Bench("adv-pi", PivotRow("steps=3"), "picture").added()
    assert 0 < likeness(data, noisy)["ssim"] < 1
    assert likeness(data, Bench("adv-n", PivotRow("steps=1"), "picture").added()) == {}
