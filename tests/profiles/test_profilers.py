"""Every profiler against one profile and one item at a time, and against what padding and order must not change."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.errors import ConfigError
from countermove.pixels.randomness import generator
from countermove.profiles import extractor
from countermove.profiles.profiler import BagNetwork
from countermove.profiles.profilers.att_mil import AttMil, WeightedItems
from countermove.profiles.profilers.deep_sets import DeepSets, MeanOfItems
from countermove.profiles.profilers.gru import Gru
from countermove.profiles.profilers.layers import MultiheadBlock
from countermove.profiles.profilers.majority_vote import MajorityVote, Votes
from countermove.profiles.profilers.set_transformer import InducedBlock, SetTransformer

Array = np.ndarray
DIM, CLASSES = 6, 3
LENGTHS = (4, 1, 7, 2)

ROWS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "majority-vote": (MajorityVote, {}),
    "majority-vote, hidden": (MajorityVote, {"hidden": 5}),
    "deep-sets": (DeepSets, {"width": 8}),
    "deep-sets, shallow": (DeepSets, {"width": 5, "layers": 1}),
    "set-transformer": (SetTransformer, {"width": 8, "heads": 2, "inducing": 3}),
    "set-transformer, norm": (SetTransformer, {"width": 8, "heads": 4, "inducing": 2, "norm": True}),
    "att-mil": (AttMil, {"width": 7, "hidden": 5}),
    "att-mil, gated": (AttMil, {"width": 7, "hidden": 5, "gated": True}),
    "gru": (Gru, {"width": 5}),
}


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """Stands for an extractor, where only its spelling matters."""

    version: ClassVar[int] = 1
    dim: int = 3


@pytest.fixture(autouse=True)
def _a_made_up_extractor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extractor.EXTRACTORS, "made-up", f"{__name__}:MadeUp")


def fresh(row: str, seed: int = 0) -> Any:
    """Return a network with double weights that are large enough to matter, in evaluation mode."""
    cls, settings = ROWS[row]
    network = cls(features="made-up", **settings).network(DIM, CLASSES, generator=generator(seed, "weights")).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1.5)
    return network.eval().requires_grad_(False)


def bags(seed: int = 0, lengths: tuple[int, ...] = LENGTHS) -> list[Tensor]:
    source = generator(seed, "items")
    return [torch.randn(n, DIM, generator=source, dtype=torch.float64) for n in lengths]


def together(given: list[Tensor], *, more: int = 0, filler: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return padded features and their mask."""
    longest = max(len(bag) for bag in given) + more
    features = torch.full((len(given), longest, DIM), filler, dtype=torch.float64)
    mask = torch.zeros(len(given), longest, dtype=torch.bool)
    for at, bag in enumerate(given):
        features[at, : len(bag)], mask[at, : len(bag)] = bag, True
    return features, mask


# One profile, one item, one head at a time, in numpy.


def affine(weights: dict[str, Array], name: str, x: Array) -> Array:
    y = weights[f"{name}.weight"] @ x
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def stacked(weights: dict[str, Array], name: str, x: Array) -> Array:
    """Return what linear layers `name.0`, `name.2`, ... give, with ReLU between them."""
    layers = sorted({int(key.split(".")[1]) for key in weights if key.startswith(f"{name}.")})
    for at, layer in enumerate(layers):
        x = affine(weights, f"{name}.{layer}", np.maximum(x, 0) if at else x)
    return x


def softmax(x: Array) -> Array:
    return np.exp(x) / np.exp(x).sum()


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def slow_votes(weights: dict[str, Array], bag: Array) -> tuple[Array, Array | None]:
    return np.log(np.mean([softmax(stacked(weights, "item", x)) for x in bag], axis=0)), None


def slow_mean(weights: dict[str, Array], bag: Array) -> tuple[Array, Array | None]:
    return stacked(weights, "rho", np.mean([stacked(weights, "phi", x) for x in bag], axis=0)), None


def slow_weighted(weights: dict[str, Array], bag: Array) -> tuple[Array, Array | None]:
    embedded, scores = [], []
    for x in bag:
        h = np.maximum(affine(weights, "embedding.0", x), 0)
        inner = np.tanh(affine(weights, "inner", h))
        if "gate.weight" in weights:
            inner = inner * sigmoid(affine(weights, "gate", h))
        embedded.append(h)
        scores.append(float((weights["outer.weight"] @ inner)[0]))
    attention = softmax(np.array(scores))
    return affine(weights, "head", np.sum([a * h for a, h in zip(attention, embedded, strict=True)], 0)), attention


def slow_block(weights: dict[str, Array], name: str, asking: list[Array], asked: list[Array], heads: int):
    """Return the block's output for each query and the weights of each key, averaged over heads."""
    keys = [affine(weights, f"{name}.key", x) for x in asked]
    values = [affine(weights, f"{name}.value", x) for x in asked]
    out, looks = [], []
    for x in asking:
        query = affine(weights, f"{name}.query", x)
        size = len(query) // heads
        seen, look = np.zeros_like(query), np.zeros(len(asked))
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            attention = softmax(np.array([query[part] @ key[part] for key in keys]) / math.sqrt(size))
            seen[part] = sum(a * value[part] for a, value in zip(attention, values, strict=True))
            look += attention / heads
        y = normed(weights, f"{name}.norms.0", query + seen)
        out.append(normed(weights, f"{name}.norms.1", y + np.maximum(affine(weights, f"{name}.after", y), 0)))
        looks.append(look)
    return out, looks


def normed(weights: dict[str, Array], name: str, x: Array) -> Array:
    if f"{name}.weight" not in weights:
        return x
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def slow_looking(weights: dict[str, Array], bag: Array, heads: int) -> tuple[Array, Array | None]:
    items = list(bag)
    for block in ("first", "second"):
        points, _ = slow_block(weights, f"{block}.gather", list(weights[f"{block}.points"][0]), items, heads)
        items, _ = slow_block(weights, f"{block}.spread", items, points, heads)
    pooled, looks = slow_block(weights, "pool", list(weights["seed"][0]), items, heads)
    return affine(weights, "head", pooled[0]), looks[0]


def slow_state(weights: dict[str, Array], bag: Array) -> tuple[Array, Array | None]:
    width = weights["head.weight"].shape[1]
    state = np.zeros(width)
    for x in bag:
        given = weights["state.weight_ih_l0"] @ x + weights["state.bias_ih_l0"]
        kept = weights["state.weight_hh_l0"] @ state + weights["state.bias_hh_l0"]
        reset, update = (sigmoid((given + kept)[k * width : (k + 1) * width]) for k in range(2))
        new = np.tanh(given[2 * width :] + reset * kept[2 * width :])
        state = (1 - update) * new + update * state
    return affine(weights, "head", state), None


SLOW: dict[type[Any], Callable[..., tuple[Array, Array | None]]] = {
    MajorityVote: slow_votes,
    DeepSets: slow_mean,
    SetTransformer: slow_looking,
    AttMil: slow_weighted,
    Gru: slow_state,
}


def slowly(row: str, network: BagNetwork, bag: Tensor) -> tuple[Array, Array | None]:
    cls, settings = ROWS[row]
    weights = {name: weight.numpy() for name, weight in network.state_dict().items()}
    more = {"heads": settings["heads"]} if "heads" in settings else {}
    return SLOW[cls](weights, bag.numpy(), **more)


@pytest.mark.parametrize("row", ROWS)
def test_it_is_what_a_loop_over_profiles_and_items_gives(row: str) -> None:
    network, given = fresh(row), bags()
    features, mask = together(given, more=2)
    logits, attention = network(features, mask), network.attention(features, mask)
    for at, bag in enumerate(given):
        expected, looks = slowly(row, network, bag)
        np.testing.assert_allclose(logits[at].numpy(), expected, atol=1e-10)
        if looks is not None:
            np.testing.assert_allclose(attention[at, : len(bag)].numpy(), looks, atol=1e-10)
    assert (attention is None) == (ROWS[row][0] in (MajorityVote, DeepSets, Gru))


def everything(network: BagNetwork, features: Tensor, mask: Tensor) -> list[Tensor]:
    """Return all that a network says of profiles, one row each."""
    said = network(features, mask), network.probabilities(features, mask), network.summary(features, mask)
    return [each for each in said if each is not None]


@pytest.mark.parametrize("row", ROWS)
def test_padding_changes_nothing_whatever_it_holds(row: str) -> None:
    network, given = fresh(row), bags()
    alone = [torch.cat(parts) for parts in zip(*(everything(network, *together([bag])) for bag in given), strict=True)]
    for filler in (0.0, 1e6):
        features, mask = together(given, more=3, filler=filler)
        for padded_rows, expected in zip(everything(network, features, mask), alone, strict=True):
            torch.testing.assert_close(padded_rows, expected, atol=1e-10, rtol=1e-10)
        attention = network.attention(features, mask)
        if attention is not None:
            assert float(attention[~mask].abs().max()) == 0
            torch.testing.assert_close(attention.sum(1), torch.ones(len(given), dtype=torch.float64))
            assert float(attention.min()) >= 0


@pytest.mark.parametrize("row", ROWS)
def test_a_hole_in_the_mask_is_padding_too(row: str) -> None:
    network = fresh(row)
    (bag,) = bags(1, (6,))
    mask = torch.tensor([[False, True, True, False, True, False]])
    torch.testing.assert_close(network(bag[None], mask), network(*together([bag[mask[0]]])), atol=1e-10, rtol=0)


@pytest.mark.parametrize("row", ROWS)
def test_the_order_of_items_matters_exactly_where_it_is_said_to(row: str) -> None:
    network = fresh(row)
    (bag,) = bags(2, (9,))
    order = torch.randperm(9, generator=generator(3, "order"))
    same = torch.allclose(network(*together([bag])), network(*together([bag[order]])), atol=1e-10)
    assert same != network.ordered
    assert network.ordered == row.startswith("gru")


@pytest.mark.parametrize("row", ROWS)
def test_one_item_is_a_profile(row: str) -> None:
    network = fresh(row)
    features, mask = together(bags(4, (1,)))
    assert network(features, mask).isfinite().all()
    torch.testing.assert_close(network.probabilities(features, mask).sum(), torch.tensor(1.0, dtype=torch.float64))
    attention = network.attention(features, mask)
    assert attention is None or attention.tolist() == [[1.0]]


@pytest.mark.parametrize("row", ROWS)
def test_summaries_add_up(row: str) -> None:
    network = fresh(row)
    a, b = bags(5, (5, 3))
    parts = network.summary(*together([a, b]))
    if parts is None:
        assert row.startswith(("set-transformer", "gru"))
        with pytest.raises(NotImplementedError, match="no summary"):
            network.joined(torch.zeros(1, 1))
        return
    whole = network(*together([torch.cat([a, b])]))
    torch.testing.assert_close(network.joined(parts.sum(0, keepdim=True)), whole, atol=1e-10, rtol=0)
    one_by_one = network.summary(torch.cat([a, b])[:, None], torch.ones(8, 1, dtype=torch.bool))
    assert one_by_one is not None
    torch.testing.assert_close(network.joined(one_by_one.sum(0, keepdim=True)), whole, atol=1e-10, rtol=0)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.startswith(("set-transformer", "gru"))])
def test_summaries_of_short_floats_add_up_to_logits_of_short_floats(row: str) -> None:
    network = fresh(row).float()
    features, mask = together(bags(5, (5, 3)))
    parts = network.summary(features.float(), mask)
    items = torch.cat([features[0], features[1, :3]])[None].float()
    whole = network(items, torch.ones(1, 8, dtype=torch.bool))
    assert network.joined(parts.sum(0, keepdim=True)).dtype == whole.dtype == torch.float32
    torch.testing.assert_close(network.joined(parts.sum(0, keepdim=True)), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("row", ROWS)
def test_gradients_are_those_of_differences(row: str) -> None:
    network = fresh(row)
    features, mask = together(bags(6, (3, 1)))
    assert torch.autograd.gradcheck(lambda x: network(x, mask), features.requires_grad_())


@pytest.mark.parametrize("row", ROWS)
def test_the_generator_alone_decides_the_weights(row: str) -> None:
    before = torch.get_rng_state()
    cls, settings = ROWS[row]
    profiler = cls(features="made-up", **settings)
    one, same, other = (profiler.network(DIM, CLASSES, generator=generator(seed, "weights")) for seed in (0, 0, 1))
    differs = []
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, same.state_dict()[name])
        differs.append(not torch.equal(weight, other.state_dict()[name]))
    assert any(differs)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("cls", SLOW)
def test_settings_become_the_recipe(cls: type[Any]) -> None:
    recipe = cls(features="made-up", epochs=3, batch=5, lr=0.25, weight_decay=0.5, optimizer="sgd").recipe()
    assert (recipe.epochs, recipe.batch, recipe.lr, recipe.weight_decay, recipe.optimizer) == (3, 5, 0.25, 0.5, "sgd")
    assert recipe.copies == (cls is MajorityVote)


@pytest.mark.parametrize("cls", SLOW)
def test_the_extractor_has_one_spelling(cls: type[Any]) -> None:
    assert cls(features="made-up( dim = 3 )") == cls(features="made-up")
    assert cls(features="made-up(dim=4)").looks() == ("made-up(dim=4)", MadeUp(dim=4))
    with pytest.raises(ConfigError, match="no extractor is called"):
        cls(features="mad-up")


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (MajorityVote, {"hidden": -1}),
        (DeepSets, {"layers": 0}),
        (DeepSets, {"optimizer": "sdg"}),
        (SetTransformer, {"width": 10, "heads": 4}),
        (SetTransformer, {"inducing": 0}),
        (SetTransformer, {"dropout": 1.0}),
        (AttMil, {"hidden": 0}),
        (AttMil, {"lr": 0.0}),
        (Gru, {"width": 0}),
        (Gru, {"epochs": 0}),
    ],
)
def test_settings_that_make_no_network_are_refused(cls: type[Any], settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        cls(features="made-up", **settings)


# What only one of them does.


def voting(rows: list[list[float]]) -> tuple[Votes, Tensor, Tensor]:
    """Return a network whose items' logits are the features themselves, and one profile of them."""
    network = Votes(CLASSES, CLASSES, 0)
    with torch.no_grad():
        network.item[0].weight.copy_(torch.eye(CLASSES))  # pyright: ignore
        network.item[0].bias.zero_()  # pyright: ignore
    return network, torch.tensor([rows]), torch.ones(1, len(rows), dtype=torch.bool)


def test_more_votes_win_over_surer_ones() -> None:
    network, features, mask = voting([[0.1, 0, 0], [0.1, 0, 0], [0, 0, 30.0]])
    read = network.probabilities(features, mask)[0]
    assert int(read.argmax()) == 0
    torch.testing.assert_close(read, torch.tensor([2 / 3, 0, 1 / 3]), atol=1e-3, rtol=0)
    assert int(network(features, mask).argmax()) == 2


def test_a_tie_goes_to_the_surer_votes_and_not_to_the_first_class() -> None:
    network, features, mask = voting([[0.1, 0, 0], [0, 0, 30.0]])
    assert int(network.probabilities(features, mask).argmax()) == 2


def test_as_many_items_as_there_may_be_cannot_outvote_one_vote_more() -> None:
    network, features, mask = voting([[0.1, 0, 0]] * 501 + [[0, 0, 30.0]] * 500)
    assert int(network.probabilities(features, mask).argmax()) == 0


def test_a_profile_that_is_read_with_certainty_still_has_a_gradient() -> None:
    """With probabilities clamped at 1e-5, as in the released code, it is exactly 0."""
    network = fresh("att-mil")
    with torch.no_grad():
        network.head.weight.mul_(3000)
    features, mask = together(bags(7, (5,)))
    features.requires_grad_()
    logits = network(features, mask)
    assert float(logits.detach().softmax(1).max()) > 1 - 1e-9
    wrong = logits.detach().argmin(1)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, wrong), features)
    assert float(gradient.abs().max()) > 1
    clamped = network(features, mask).softmax(1).clamp(1e-5, 1 - 1e-5)
    (gradient,) = torch.autograd.grad(F.nll_loss(clamped.log(), wrong), features)
    assert float(gradient.abs().max()) == 0


def test_extreme_scores_have_a_summary() -> None:
    network = WeightedItems(DIM, CLASSES, 7, 5, gated=False)
    with torch.no_grad():
        network.outer.weight.mul_(400 / network.outer.weight.abs().sum())  # 32 bits end at exp(88)
        network.inner.weight.mul_(50)
    features, mask = together(bags(8, (6, 3)))
    parts = network.summary(features.float(), mask)
    assert parts.isfinite().all()
    torch.testing.assert_close(network.joined(parts), network(features.float(), mask), atol=1e-4, rtol=1e-4)


def test_dropout_is_off_when_read_and_on_when_trained() -> None:
    network = fresh("set-transformer")
    features, mask = together(bags(9, (5,)))
    assert torch.equal(network(features, mask), network(features, mask))
    assert not torch.equal(network.train()(features, mask), network(features, mask))


# Against other people's.


def theirs(name: str) -> Any:
    """Import somebody else's module, which may warn as it likes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"needs {name.partition('.')[0]}, a second implementation")


@pytest.mark.parametrize("norm", [False, True])
def test_blocks_are_those_of_torch_geometric(norm: bool) -> None:
    """Theirs adds its queries as they come, ours projected: the two meet where that projection is the identity."""
    utils = theirs("torch_geometric.nn.aggr.utils")
    ours = InducedBlock(8, 8, 2, 3, norm=norm).double()
    other = utils.InducedSetAttentionBlock(8, 3, heads=2, layer_norm=norm).double()
    with torch.no_grad():
        other.ind.copy_(ours.points)
        for block, their in ((ours.gather, other.mab1), (ours.spread, other.mab2)):
            as_torch(block, their.attn)
            their.lin.load_state_dict(block.after.state_dict())
            for at in range(2 * norm):
                getattr(their, f"layer_norm{at + 1}").load_state_dict(block.norms[at].state_dict())
    source = generator(10, "items")
    items = torch.randn(3, 5, 8, generator=source, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([5, 2, 1])[:, None]
    torch.testing.assert_close(ours(items, mask)[mask], other(items, mask)[mask])


def as_torch(block: MultiheadBlock, attention: nn.MultiheadAttention) -> None:
    """Make a block's queries the identity, and torch's attention what the block is."""
    width = block.query.in_features
    block.query.weight.copy_(torch.eye(width))
    block.query.bias.zero_()
    attention.in_proj_weight.copy_(torch.cat([block.query.weight, block.key.weight, block.value.weight]))
    attention.in_proj_bias.copy_(torch.cat([block.query.bias, block.key.bias, block.value.bias]))
    attention.out_proj.weight.copy_(torch.eye(width))
    attention.out_proj.bias.zero_()


def test_looks_are_those_of_torch() -> None:
    block, attention = MultiheadBlock(8, 8, 8, 4, norm=False), nn.MultiheadAttention(8, 4, batch_first=True)
    with torch.no_grad():
        as_torch(block, attention)
        source = generator(11, "items")
        asking, asked = torch.randn(3, 2, 8, generator=source), torch.randn(3, 5, 8, generator=source)
        mask = torch.arange(5) < torch.tensor([5, 2, 1])[:, None]
        _, looks = attention(asking, asked, asked, key_padding_mask=~mask)
        torch.testing.assert_close(block.weights(asking, asked, mask).mean(1), looks)


def test_deep_sets_are_those_of_torch_geometric() -> None:
    """Theirs sums; a profile of n items must be what theirs makes of the sum divided by n."""
    aggregation = theirs("torch_geometric.nn.aggr").DeepSetsAggregation
    ours, (bag,) = MeanOfItems(DIM, CLASSES, 8, 4).double(), bags(12, (5,))
    divided = nn.Sequential(ours.phi, _Divided(len(bag)))
    other = aggregation(local_nn=divided, global_nn=ours.rho)
    torch.testing.assert_close(ours(*together([bag])), other(bag, torch.zeros(len(bag), dtype=torch.int64)))


class _Divided(nn.Module):
    def __init__(self, by: int) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x / self.by


@pytest.mark.parametrize("gated", [False, True])
def test_att_mil_is_that_of_torchmil(gated: bool) -> None:
    pool = theirs("torchmil.nn").AttentionPool(in_dim=7, att_dim=5, gated=gated).double()
    ours = WeightedItems(DIM, CLASSES, 7, 5, gated=gated).double()
    state = {key: torch.zeros_like(weight) for key, weight in pool.state_dict().items()}
    for mine, their in (("inner", "fc1"), ("outer", "fc2"), ("gate", "fc_gated")):
        for kind in ("weight", "bias"):
            key = next((k for k in state if k.startswith(their) and k.endswith(kind)), None)
            if key is not None:
                state[key] = ours.state_dict()[f"{mine}.{kind}"]
    pool.load_state_dict(state)
    features, mask = together(bags(13))
    pooled = pool(ours.embedding(features), mask)
    torch.testing.assert_close(ours(features, mask), ours.head(pooled))
