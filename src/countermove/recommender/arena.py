"""The rules of this arena: what a cell needs, what it is measured against, what a payoff is. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from countermove import learning, nets, pixels, recommender
from countermove.game.arena import Control, Number, Panel, Rules, Yardstick
from countermove.game.cell import Crafted, Desk, Outcome, Payer, Setting, Task
from countermove.game.methods import Composition, Methods, Spelled, build
from countermove.recommender.methods import METHODS

if TYPE_CHECKING:
    from countermove.game.results import Results
    from countermove.game.store import RunFolder
    from countermove.recommender.candidates import FirstStage
    from countermove.recommender.defence import Plan
    from countermove.recommender.fitting import RankerMethod
    from countermove.recommender.shop import Shop

LEAST_AUC = 0.52
"""A ranker that wins fewer of the comparisons between what users touched next and other candidates learned nothing."""


COUNTING = ("together", "pictures")
"""Settings of the first stage's table that say how lists are counted, not how candidates are found."""


class Recommender:
    """Item pictures that shall climb the lists."""

    name = "recommender"
    unit = "cold item"
    metric = "clean_hr"
    metrics: tuple[str, ...] = ("hr_before", "hr_after", "prediction_shift", "p_value", "availability")
    reply_floor: float | None = 0.9
    yardstick = Yardstick(worked=0.005, relative=True, digits=4)

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        spelled = Spelled(METHODS, rehash=rules.rehash)
        self.composed, self._identity = spelled.composed, spelled.identity
        self._shops: dict[str, Shop] = {}

    @property
    def methods(self) -> Methods:
        """Return every promotion, defence, ranker and shop."""
        return METHODS

    @cached_property
    def first_stage(self) -> FirstStage:
        """Return how candidates are chosen and lists counted."""
        from countermove.recommender.candidates import FirstStage

        return build(FirstStage, self.rules.training, what="[training]")

    def check(self, axes: Mapping[str, Sequence[str]]) -> None:
        """Refuse axes that do not fit this arena."""
        from countermove.recommender.shop import POPULAR, find_hook

        _ = self.first_stage
        for kind in ("data", "move", "model"):
            for spelled in axes[kind]:
                _ = self.composed(kind, spelled).method
        for spelled in axes["move"]:
            hook = getattr(self.composed("move", spelled).method, "hook", POPULAR)
            for data in axes["data"] if hook != POPULAR else ():
                find_hook(self.shop(data), hook)  # only the data know their items
        for spelled in axes["countermove"]:
            _ = self.plan(spelled)
            for model in axes["model"]:
                self.refitted(model, spelled)

    def controls(self, data: str) -> Sequence[Control]:
        """Return the insider's promotion against lists that do not look at new pictures."""
        return (Control(move="insa", countermove="random-slot", works=self.yardstick.worked),)

    def extra_countermoves(self, data: str) -> Sequence[str]:
        """Return nothing: every defence is a reply."""
        return ()

    def reference(self, setting: Setting) -> Setting:
        """Return the same shop, ranker, seed and countermove with cooperative pictures."""
        return Setting(setting.arena, setting.data, "none", setting.countermove, setting.model, setting.seed)

    def access(self, setting: Setting) -> str:
        """Return white for who knows the ranker, gray for who knows its features or its lists, else near-black."""
        move = self.composed("move", setting.move)
        if move.is_none:
            return ""
        if getattr(move.method, "knowledge", "") == "lists":
            return "gray"
        return {"ranker": "white", "features": "gray"}.get(move.method.knows, "near-black")

    def payoff(self, mean: Number, reference: Number, chance: float | None) -> Number:
        """Return the share of users whose top five holds an item after but not before, averaged over items."""
        return mean

    def not_learned(self, metrics: Mapping[str, float]) -> str:
        """Return why a ranker proves nothing: it hardly tells what users touched next from other candidates."""
        found = metrics["clean_auc"]
        if found >= LEAST_AUC:
            return ""
        return f"wins {found:.3f} of the comparisons on held-out items; at least {LEAST_AUC} is needed (chance: 0.5)."

    def plan(self, countermove: str) -> Plan:
        """Return what a countermove makes of the owner's plan."""
        from countermove.recommender.defence import Plan

        plan = Plan()
        for part in self.composed("countermove", countermove).parts:
            plan = part.method(plan)
        return plan

    def refitted(self, model: str, countermove: str) -> RankerMethod:
        """Return what is fitted when a countermove answers with another ranker; the model itself for all others."""
        from countermove.recommender.defence import Refits

        method: RankerMethod = self.composed("model", model).method
        for part in self.composed("countermove", countermove).parts:
            if isinstance(part.method, Refits):
                method = part.method.refit(method)
        return method

    def cell(self, setting: Setting) -> Task:
        """Return the cell with the ranker, the lists and the promoted pictures that it needs."""
        payload = {
            **self._common(setting),
            "move": setting.move,
            "countermove": self._identity("countermove", setting.countermove),
            "model": self._identity("model", setting.model),
            "counting": {"together": self.first_stage.together, "pictures": self.first_stage.pictures},
        }
        move = self._move_task(setting)
        needs = (self._ranker_task(setting, setting.countermove), self._lists_task(setting))
        return Task("cell", setting.label, payload, needs=(*needs, move) if move else needs, setting=setting)

    def samples(self, task: Task) -> int:
        """Return how many pictures a cell embeds: every cold item's own, before and after."""
        spelled = task.payload["data"]["spelling"]
        stated = getattr(self.composed("data", spelled).method, "cold", 0)
        return 2 * (stated or len(self.shop(spelled).cold))

    def make(self, task: Task, desk: Desk) -> Crafted:
        """Make an artifact."""
        from countermove.recommender import play

        work = {
            "candidates": play.make_candidates,
            "features": play.make_features,
            "ranker": play.fit_ranker,
            "lists": play.write_lists,
            "move": play.promote,
        }
        return work[task.kind](self, task, desk)

    def play(self, task: Task, desk: Desk) -> Outcome:
        """Put every cold item into every list."""
        from countermove.recommender import play

        return play.play_cell(self, task, desk)

    def panels(self, run: RunFolder, results: Results) -> Sequence[Panel]:
        """Return the pictures before and after, how ranks moved, and where items went among the others."""
        from countermove.recommender.panels import panels

        return panels(self, run, results)

    def shop(self, spelled: str) -> Shop:
        """Return a shop; read once."""
        if spelled not in self._shops:
            self._shops[spelled] = self.composed("data", spelled).method()
        return self._shops[spelled]

    def _move_task(self, setting: Setting) -> Task | None:
        """Return the artifact with the promoted pictures; a mover meets the ranker as it is before any defence."""
        move = self.composed("move", setting.move)
        if move.is_none:
            return None
        payload = {**self._common(setting), "move": self._identity("move", setting.move)}
        needs: tuple[Task, ...] = ()
        own = getattr(move.method, "extractor", None)
        model = self.refitted(setting.model, "none")
        if move.method.knows == "features" and (own or model.extractor()):
            needs = (self._features_task(setting, own() if own else model.extractor(), "mover" if own else "trainer"),)
        elif move.method.knows:
            needs = (self._ranker_task(setting, "none"),)
        label = f"promote {setting.move} | {setting.data} | seed {setting.seed}"
        return Task("move", label, payload, needs, payer="mover")

    def _ranker_task(self, setting: Setting, countermove: str) -> Task:
        from countermove.finetuning.adaptation import key_of
        from countermove.recommender.fitting import GoesOn

        method = self.refitted(setting.model, countermove)
        refits = self._refits(countermove)
        payload = {
            **self._common(setting),
            "model": self._identity("model", setting.model),
            "refit": self._identity("countermove", refits),
        }
        extractor = method.extractor()
        needs = () if extractor is None else (self._features_task(setting, extractor),)
        if isinstance(method, GoesOn):
            needs = (*needs, self._ranker_task(setting, "none"))
            payload |= key_of({"adaptation": method.adaptation})
        label = f"fit {setting.model} | {setting.data} | seed {setting.seed}"
        return Task("ranker", label if refits == "none" else f"{label} | {refits}", payload, needs)

    def _refits(self, countermove: str) -> str:
        """Return the parts of a countermove that fit another ranker, spelled; none where there are none."""
        from countermove.recommender.defence import Refits

        parts = tuple(
            part for part in self.composed("countermove", countermove).parts if isinstance(part.method, Refits)
        )
        return Composition(parts).spelling if parts else "none"

    def _lists_task(self, setting: Setting) -> Task:
        squeezed = setting.countermove if self.plan(setting.countermove).catalogue else "none"
        payload = {**self._common(setting), "catalogue": self._identity("countermove", squeezed)}
        needs = (self._ranker_task(setting, setting.countermove), self._candidates_task(setting))
        return Task("lists", f"lists of {setting.model} | {setting.data} | seed {setting.seed}", payload, needs)

    def _features_task(self, setting: Setting, extractor: Any, payer: Payer = "trainer") -> Task:
        from countermove.finetuning.adaptation import key_of

        identity = extractor.identity()
        payload = {**self._common(setting), "extractor": identity, **key_of(identity)}
        needs = (self._candidates_task(setting),)
        if extractor.adaptation:
            needs = (*needs, self._features_task(setting, extractor.plain, payer))
        about = f"{extractor.network}, {extractor.adaptation}" if extractor.adaptation else extractor.network
        label = f"features {about} | {setting.data} | seed {setting.seed}"
        return Task("features", label, payload, needs, payer=payer)

    def _candidates_task(self, setting: Setting) -> Task:
        from dataclasses import asdict

        stage = {key: value for key, value in asdict(self.first_stage).items() if key not in COUNTING}
        payload = {**self._common(setting), "first_stage": stage}
        return Task("candidates", f"candidates | {setting.data} | seed {setting.seed}", payload)

    def _common(self, setting: Setting) -> dict[str, Any]:
        """Return what every task of a grid point depends on."""
        return {
            "arena": self.name,
            "data": self._identity("data", setting.data),
            "seed": setting.seed,
            "threads": self.rules.threads,
            "device": self.rules.device,
            "rooms": {
                "pixels": pixels.VERSION,
                "learning": learning.VERSION,
                "nets": nets.VERSION,
                "recommender": recommender.VERSION,
            },
        }
