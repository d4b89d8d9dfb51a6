"""The work of this arena: candidates, features, rankers, lists, promotions, cells."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from countermove.errors import DataError
from countermove.finetuning.pictures import ready
from countermove.game.cell import Cost, Crafted, Desk, Outcome, Setting, Task, Units
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.scoring import place, warm_up
from countermove.nets.weights import load_weights, save_weights
from countermove.pixels.balls import Ball
from countermove.pixels.batch import Batch
from countermove.pixels.budget import measured_budget
from countermove.pixels.randomness import generator
from countermove.pixels.rounding import quantize_move, to_float, to_uint8
from countermove.pixels.squeezes import squeeze_uint8
from countermove.recommender.candidates import Factors, check_candidates, check_pictures, choose_candidates, fit_bpr
from countermove.recommender.defence import Plan
from countermove.recommender.extractor import Extractor, features_of, item_table
from countermove.recommender.fitting import GoesOn, Material, OwnNetwork
from countermove.recommender.metrics import COUNTED, availability, clean_metrics, item_metrics
from countermove.recommender.promotion import PromotionContext
from countermove.recommender.ranker import Ranker, check_scores, load_ranker
from countermove.recommender.ranking import Lists, hits_together, make_lists
from countermove.recommender.shop import Shop, public

if TYPE_CHECKING:
    from countermove.recommender.arena import Recommender

WEIGHTS, TABLE, RANKER = "weights.safetensors", "features.safetensors", "ranker.safetensors"
CANDIDATES, LISTS, PICTURES = "candidates.safetensors", "lists.safetensors", "promoted.safetensors"


def make_candidates(arena: Recommender, task: Task, desk: Desk) -> Crafted:
    """Fit the first stage and choose every user's candidates."""
    shop, seed = _shop(arena, task), task.payload["seed"]
    check_candidates(shop, arena.first_stage.candidates)
    began = time.perf_counter()
    factors, seen = fit_bpr(shop, arena.first_stage, seed=seed)
    chosen = choose_candidates(shop, factors, arena.first_stage.candidates)
    save_file({"chosen": chosen, **asdict(factors)}, desk.folder / CANDIDATES)
    facts = {"statistics": dict(shop.statistics), "users with fewer candidates": int((chosen[:, -1] < 0).sum())}
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=seen), facts=facts)


def make_features(arena: Recommender, task: Task, desk: Desk) -> Crafted:
    """Train, fine-tune or load an extractor and tabulate the features of all items."""
    shop, seed, device = _shop(arena, task), task.payload["seed"], arena.rules.device
    asked = Extractor(**task.payload["extractor"])
    if asked.adaptation:
        return _go_on(arena, task, desk, shop, asked)
    began = time.perf_counter()
    factors = _factors(_artifact(task, "candidates"), desk)
    checkpoint = Checkpoint(desk.scratch / "training.safetensors")
    network, log = asked.fit(shop, factors, seed=seed, device=device, checkpoint=checkpoint)
    save_weights(network, desk.folder / WEIGHTS)
    save_file({"features": item_table(network, shop, device=device)}, desk.folder / TABLE)
    facts = {} if log is None else {"train_accuracy": log.train_accuracy[-1]}
    samples = 0 if log is None else log.samples
    return Crafted(cost=Cost(seconds=time.perf_counter() - began, samples=samples), facts=facts)


def _go_on(arena: Recommender, task: Task, desk: Desk, shop: Shop, asked: Extractor) -> Crafted:
    """Fine-tune the plain extractor; what that changes stands beside it."""
    network, _ = _features(arena, task, desk, shop)
    assert network is not None, "the arena asks for the plain one"
    factors, device = _factors(_artifact(task, "candidates"), desk), arena.rules.device
    ready(asked.adaptation)
    began = time.perf_counter()
    log, adapted, examples = asked.go_on(
        network.requires_grad_(True),
        shop,
        factors,
        seed=task.payload["seed"],
        device=device,
        checkpoint=Checkpoint(desk.scratch / "training.safetensors"),
    )
    save_weights(network, desk.folder / WEIGHTS)
    save_file({"features": item_table(network, shop, device=device)}, desk.folder / TABLE)
    cost = Cost(
        seconds=time.perf_counter() - began,
        samples=log.samples,
        parameters_changed=adapted.parameters_changed,
        bytes_stored=adapted.bytes_stored,
        clean_examples=examples,
    )
    return Crafted(cost=cost, facts={"train_accuracy": log.train_accuracy[-1]})


def fit_ranker(arena: Recommender, task: Task, desk: Desk) -> Crafted:
    """Fit a ranker and store all of it."""
    shop, seed = _shop(arena, task), task.payload["seed"]
    network, table = _features(arena, task, desk, shop)
    method = arena.refitted(task.payload["model"]["spelling"], task.payload["refit"]["spelling"])
    base = task.need("ranker")
    before = None if base is None else _ranker(arena, base, desk)
    if isinstance(method, GoesOn):
        ready(method.adaptation)
    began = time.perf_counter()
    material = Material(shop=shop, seed=seed, network=network, table=table, device=arena.rules.device, before=before)
    fitted = method.fit(material)
    fitted.ranker.save(desk.folder / RANKER)
    return Crafted(cost=fitted.change + Cost(seconds=time.perf_counter() - began, samples=fitted.samples))


def write_lists(arena: Recommender, task: Task, desk: Desk) -> Crafted:
    """Score every user's list, with the catalogue as the owner's squeezes leave it."""
    shop = _shop(arena, task)
    ranker = _ranker(arena, _artifact(task, "ranker"), desk)
    began = time.perf_counter()
    squeezes = arena.plan(task.payload["catalogue"]["spelling"]).catalogue
    if squeezes:
        plain = ranker
        ranker = plain.recatalogued(
            shop.averaged(lambda p: plain.embed_uint8(squeeze_uint8(p, *squeezes), device=arena.rules.device))
        )
    chosen = load_file(desk.artifact(_artifact(task, "candidates")) / CANDIDATES)["chosen"]
    lists = make_lists(ranker, shop, chosen)
    save_file({**vars(lists), **({"catalogue": ranker.catalogue} if squeezes else {})}, desk.folder / LISTS)
    return Crafted(cost=Cost(seconds=time.perf_counter() - began))


def promote(arena: Recommender, task: Task, desk: Desk) -> Crafted:
    """Craft the promoted pictures of all cold items and store them with 8 bits a channel."""
    warm_up(arena.rules.device)
    shop = _shop(arena, task)
    method = arena.composed("move", task.payload["move"]["spelling"]).method
    batch = cold_batch(shop)
    context = _context(arena, task, desk, shop)
    began = time.perf_counter()
    moved = method(batch, context=context).pictures
    ball = None if method.norm is None else Ball(norm=method.norm, radius=method.eps)
    stored = to_uint8(moved if ball is None else quantize_move(moved, batch.pictures, ball))
    if stored.shape != batch.pictures.shape:
        raise DataError(f"{task.label} returned pictures of another size: {list(stored.shape)}")
    save_file({"pictures": stored}, desk.folder / PICTURES)
    facts = {"budget": measured_budget(stored, batch.pictures, ball), "ids": list(batch.ids)}
    cost = Cost(seconds=time.perf_counter() - began, samples=context.meter.samples)
    return Crafted(cost=cost, facts=facts)


def play_cell(arena: Recommender, task: Task, desk: Desk) -> Outcome:
    """Receive every cold item's picture, cooperative and promoted, and see whose lists each of them enters."""
    warm_up(arena.rules.device)
    shop, plan = _shop(arena, task), arena.plan(task.payload["countermove"]["spelling"])
    check_pictures(shop, arena.first_stage.pictures)
    stored = load_file(desk.artifact(_artifact(task, "lists")) / LISTS)
    ranker = _ranker(arena, _artifact(task, "ranker"), desk)
    if "catalogue" in stored:
        ranker = ranker.recatalogued(stored.pop("catalogue"))
    lists = Lists(**stored)
    honest = shop.pictures[shop.cold]
    move = task.need("move")
    promoted = honest if move is None else load_file(desk.artifact(move) / PICTURES)["pictures"]
    began = time.perf_counter()
    gate = _Gate(plan, ranker, shop, arena.rules.device)
    before = _Received.of(honest, plan, ranker, gate)
    after = before if move is None else _Received.of(promoted, plan, ranker, gate)
    if len(shop.further):
        others = _others(shop, plan, ranker, arena.rules.device)
        before, after = (received.among(*others) for received in (before, after))
    elif move is not None:
        supposed = arena.first_stage.pictures
        after = after.among((supposed - 1) * before.embedded, torch.tensor(supposed))
    before, after = (received.scored(ranker) for received in (before, after))
    honest_scores, moved_scores = (_standing(r, plan, lists, shop, task.payload["seed"]) for r in (before, after))
    together = arena.first_stage.together
    hits = [hits_together(lists, scores, COUNTED, together) for scores in (honest_scores, moved_scores)]
    gained = hits[1] & ~hits[0]
    seconds = time.perf_counter() - began
    metrics = {
        **item_metrics(lists, honest_scores, moved_scores, together),
        # of what the ranker says of the picture, whatever a gate or a random slot then makes of it
        "prediction_shift": float((after.scores - before.scores).double().mean()),
        "availability": availability(lists, honest_scores, moved_scores, together),
        **clean_metrics(lists),
        **gate.metrics(before, after),
    }
    rates = torch.stack([had.float().mean(0) for had in hits], dim=1)
    ranks = torch.stack([lists.ranks(scores).float().mean(0) for scores in (honest_scores, moved_scores)], dim=1)
    weights = sum(t.numel() for t in [*ranker.network.state_dict().values(), *ranker.tensors().values()])
    return Outcome(
        metrics=metrics,
        units=Units(ids=cold_batch(shop).ids, outcome=gained.double().mean(0).tolist()),
        chance=None,
        cost=Cost(
            seconds=seconds,
            parameters_changed=weights,
            bytes_stored=4 * weights,
            clean_examples=gate.examples,
        ),
        tables={"hit_rates": rates.tolist(), "mean_ranks": ranks.tolist()},
    )


def cold_batch(shop: Shop) -> Batch:
    """Return the cold items' pictures as float32 with their ids; labels are their categories, 0 where unknown."""
    labels = shop.category[shop.cold].clamp_min(0)
    ids = tuple(shop.items[i] for i in shop.cold.tolist())
    return Batch(pictures=to_float(shop.pictures[shop.cold]), labels=labels, ids=ids, classes=shop.categories)


@dataclass(frozen=True)
class _Received:
    """What an owner makes of uploads: embeddings [C, K], who was let in, bool [C], scores [U, C] once they are made."""

    embedded: Tensor
    admitted: Tensor
    scores: Tensor

    @classmethod
    def of(cls, uploads: Tensor, plan: Plan, ranker: Ranker, gate: _Gate) -> _Received:
        embedded = ranker.embed_uint8(squeeze_uint8(uploads, *plan.new), device=gate.device)
        return cls(embedded, gate.admits(uploads), torch.zeros(0))

    def among(self, others: Tensor, shown: Tensor) -> _Received:
        """Return items that show one of these pictures each beside others, whose embeddings are summed [C, K]."""
        return replace(self, embedded=(self.embedded + others) / shown)

    def scored(self, ranker: Ranker) -> _Received:
        """Return them with their scores."""
        scores = ranker.visual(self.embedded)
        check_scores(scores)
        return replace(self, scores=scores)


def _others(shop: Shop, plan: Plan, ranker: Ranker, device: str) -> tuple[Tensor, Tensor]:
    """Return the cold items' further pictures, embedded as the owner sees them and summed [C, K]; all shown [C, 1]."""
    theirs = shop.is_cold[shop.further_of]
    total = torch.zeros(len(shop.items), ranker.catalogue.shape[1])
    if theirs.any():
        embedded = ranker.embed_uint8(squeeze_uint8(shop.further[theirs], *plan.new), device=device)
        total.index_add_(0, shop.further_of[theirs], embedded)
    return total[shop.cold], shop.shown[shop.cold][:, None]


class _Gate:
    """The gatekeeper, with its limit set on the catalogue's warm pictures."""

    def __init__(self, plan: Plan, ranker: Ranker, shop: Shop, device: str) -> None:
        self.gate, self.ranker, self.device = plan.gate, ranker, device
        self.examples = 0 if plan.gate is None else len(shop.warm)
        self.limit = 0.0
        if plan.gate is not None:
            self.limit = float(self._moved(shop.pictures[shop.warm]).quantile(plan.gate.passed))

    def admits(self, uploads: Tensor) -> Tensor:
        """Return who is let in, bool [C]."""
        if self.gate is None:
            return torch.ones(len(uploads), dtype=torch.bool)
        return self._moved(uploads) <= self.limit

    def metrics(self, before: _Received, after: _Received) -> dict[str, float]:
        """Return how many honest and how many promoted pictures were refused, where there is a gate."""
        if self.gate is None:
            return {}
        shares = [1 - float(received.admitted.float().mean()) for received in (before, after)]
        return {"refused_honest": shares[0], "refused_promoted": shares[1]}

    def _moved(self, pictures: Tensor) -> Tensor:
        assert self.gate is not None, "asked only where there is a gate"
        squeezed = squeeze_uint8(pictures, self.gate.squeeze)
        first, second = (self.ranker.embed_uint8(p, device=self.device) for p in (pictures, squeezed))
        return torch.linalg.vector_norm(first - second, dim=1)


def _standing(received: _Received, plan: Plan, lists: Lists, shop: Shop, seed: int) -> Tensor:
    """Return the scores with which uploads stand in the lists, [U, C]."""
    scores = _random_slots(lists, shop, seed) if plan.random_slot else received.scores
    return torch.where(received.admitted, scores, -torch.inf)


def _random_slots(lists: Lists, shop: Shop, seed: int) -> Tensor:
    """Return scores that put every cold item at a random place of every list, the same whatever its picture is."""
    length = lists.scores.shape[1]
    places = torch.stack(
        [
            torch.randint(length + 1, (len(shop.users),), generator=generator(seed, "slot", shop.items[item]))
            for item in shop.cold.tolist()
        ],
        dim=1,
    )
    ahead = lists.scores.gather(1, (places - 1).clamp_min(0))  # an equal score stands behind
    return torch.where(places == 0, torch.inf, ahead)


def _context(arena: Recommender, task: Task, desk: Desk, shop: Shop) -> PromotionContext:
    """Return what the move says that it knows; of the shop, what everybody sees, to all but insiders."""
    knows = arena.composed("move", task.payload["move"]["spelling"]).method.knows
    shop = shop if knows == "ranker" else public(shop)
    seed, device = task.payload["seed"], arena.rules.device
    if (need := task.need("ranker")) is not None:
        ranker = _ranker(arena, need, desk)
        return PromotionContext(
            shop=shop,
            seed=seed,
            device=device,
            ranker=ranker if knows == "ranker" else None,
            network=ranker.network,
            embed=lambda pictures: ranker.embed(pictures),
        )
    network, _ = _features(arena, task, desk, shop)
    if network is None:
        return PromotionContext(shop=shop, seed=seed, device=device)

    def embed(pictures: Tensor) -> Tensor:
        return features_of(network, pictures)

    return PromotionContext(shop=shop, seed=seed, device=device, network=network, embed=embed)


def _features(arena: Recommender, task: Task, desk: Desk, shop: Shop) -> tuple[nn.Module | None, Tensor | None]:
    need = task.need("features")
    if need is None:
        return None, None
    network = Extractor(**need.payload["extractor"]).build(shop, seed=task.payload["seed"])
    load_weights(network, desk.artifact(need) / WEIGHTS)
    return place(network, arena.rules.device), load_file(desk.artifact(need) / TABLE)["features"]


def read_ranker(arena: Recommender, setting: Setting, refits: str, folder: Path) -> Ranker:
    """Read a fitted ranker back from its artifact.

    Args:
        arena: whose methods are asked how it was made.
        setting: data, model and seed say what it was fitted on and with.
        refits: the countermove that fitted it in the model's place, or none.
        folder: of the artifact.
    """
    method, shop = arena.refitted(setting.model, refits), arena.shop(setting.data)
    extractor = method.extractor()
    if extractor is not None:
        network = extractor.build(shop, seed=setting.seed)
    else:
        assert isinstance(method, OwnNetwork), "a ranker sees features or trains a network of its own"
        network = method.blank(shop, seed=setting.seed)
    ranker = load_ranker(folder / RANKER, network)
    place(ranker.network, arena.rules.device)
    return ranker


def _ranker(arena: Recommender, task: Task, desk: Desk) -> Ranker:
    payload = task.payload
    setting = Setting(
        arena.name, payload["data"]["spelling"], "none", "none", payload["model"]["spelling"], payload["seed"]
    )
    return read_ranker(arena, setting, payload["refit"]["spelling"], desk.artifact(task))


def _factors(task: Task, desk: Desk) -> Factors:
    stored = load_file(desk.artifact(task) / CANDIDATES)
    return Factors(stored["users"], stored["items"], stored["bias"])


def _artifact(task: Task, kind: str) -> Task:
    need = task.need(kind)
    assert need is not None, f"{task.kind} tasks need {kind}"
    return need


def _shop(arena: Recommender, task: Task) -> Shop:
    torch.set_num_threads(arena.rules.threads)
    return arena.shop(task.payload["data"]["spelling"])
