"""The rules of this arena: what a cell needs, what it is measured against, what a payoff is. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from countermove import faces, learning, nets, pixels
from countermove.errors import ConfigError
from countermove.faces.methods import METHODS
from countermove.game.arena import Control, Number, Panel, Rules, Yardstick
from countermove.game.cell import Crafted, Desk, Outcome, Payer, Setting, Task
from countermove.game.methods import Methods, Spelled

if TYPE_CHECKING:
    from countermove.faces.gallery import Faces as FaceSet
    from countermove.faces.trainer import Knowing, Plan
    from countermove.game.results import Results
    from countermove.game.store import RunFolder


class Faces:
    """Photos that shall not name their owner.

    protection and clean_error are means over people of the share of their photos that is not named rightly, with and
    without the move; others_accuracy is over the photos of all who do not move.
    """

    name = "faces"
    unit = "mover"
    metric = "others_accuracy"
    metrics: tuple[str, ...] = ("protection", "clean_error", "others_accuracy")
    reply_floor: float | None = None
    yardstick = Yardstick(bystanders=True)

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        spelled = Spelled(METHODS, rehash=rules.rehash)
        self.composed, self._identity = spelled.composed, spelled.identity
        self._sets: dict[str, FaceSet] = {}
        self._extractors: dict[str, dict[str, Any]] = {}

    @property
    def methods(self) -> Methods:
        """Return every cloak, trainer's reply, recogniser and face set."""
        return METHODS

    def check(self, axes: Mapping[str, Sequence[str]]) -> None:
        """Refuse axes that do not fit this arena."""
        if self.rules.training:
            raise ConfigError(
                "the faces arena takes no [training] table: extractors and recognisers have their own settings"
            )
        for kind in ("data", "move", "model"):
            for spelled in axes[kind]:
                _ = self.composed(kind, spelled).method
        for spelled in axes["countermove"]:
            plan = self.plan(spelled)
            if plan.growing is None and plan.mixture != "confidence":
                continue
            for model in axes["model"]:
                if self.composed("model", model).parts[0].name != "nearest":
                    raise ConfigError(
                        f"countermove {spelled!r} compares similarities of nearest neighbours; {model} has none"
                    )

    def controls(self, data: str) -> Sequence[Control]:
        """Return the cloak that knows the trainer's extractor against clean photos that were never cloaked."""
        return (Control(move="pgd", countermove="leaked(photos=5)", works=0.3),)

    def extra_countermoves(self, data: str) -> Sequence[str]:
        """Return nothing."""
        return ()

    def reference(self, setting: Setting) -> Setting:
        """Return the same people, recogniser and seed, with nothing done by anybody."""
        return Setting(setting.arena, setting.data, "none", "none", setting.model, setting.seed)

    def access(self, setting: Setting) -> str:
        """Return white for a cloak made on the trainer's own extractor, near-black for all others."""
        move = self.composed("move", setting.move)
        if move.is_none:
            return ""
        return "white" if self.extractor(setting.model) in self._made_on(setting.move, setting.model) else "near-black"

    def payoff(self, mean: Number, reference: Number, chance: float | None) -> Number:
        """Return the error on movers' clean photos beyond what it is without the move."""
        return reference - mean

    def not_learned(self, metrics: Mapping[str, float]) -> str:
        """Return nothing: guessing names one in as many as there are people, and the game knows that."""
        return ""

    def plan(self, countermove: str) -> Plan:
        """Return what a countermove makes of the trainer's plan."""
        from countermove.faces.trainer import Plan

        plan = Plan()
        for part in self.composed("countermove", countermove).parts:
            plan = part.method(plan)
        return plan

    def extractor(self, model: str) -> str:
        """Return the canonical spelling of a recogniser's extractor."""
        return self.composed("model", model).method.features()[0]

    def cell(self, setting: Setting) -> Task:
        """Return the cell with the extractors, cloaked photos and trained helpers that it needs."""
        plan, own = self.plan(setting.countermove), self.extractor(setting.model)
        move = self._move_task(setting)
        needs = [self._extractor_task(setting, own)]
        needs += [move] if move else []
        if plan.adaptation:
            needs.append(self._trained_task(setting, "adapted", plan.adaptation, own))
        if plan.purification:
            needs.append(self._trained_task(setting, "purifier", plan.purification, own))
        if plan.detection:
            needs.append(self._trained_task(setting, "detector", plan.detection, ""))
        payload = {
            **self._common(setting),
            "move": setting.move,
            "countermove": self._identity("countermove", setting.countermove),
            "model": self._identity("model", setting.model),
        }
        return Task("cell", setting.label, payload, needs=tuple(needs), setting=setting)

    def samples(self, task: Task) -> int:
        """Return how many photos a cell embeds."""
        found = self.faces(task.payload["data"]["spelling"])
        return 2 * len(found.published) + len(found.tested)

    def make(self, task: Task, desk: Desk) -> Crafted:
        """Make an artifact."""
        from countermove.faces import artifacts, play

        play.set_threads(self.rules.threads)
        work = {
            "extractor": artifacts.make_extractor,
            "move": artifacts.cloak,
            "known": artifacts.cloak_public,
            "adapted": artifacts.adapt,
            "purifier": artifacts.make_purifier,
            "detector": artifacts.make_detector,
        }
        return work[task.kind](self, task, desk)

    def play(self, task: Task, desk: Desk) -> Outcome:
        """Name every mover's test photos in the world where they alone have cloaked."""
        from countermove.faces import play

        play.set_threads(self.rules.threads)
        return play.play_cell(self, task, desk)

    def panels(self, run: RunFolder, results: Results) -> Sequence[Panel]:
        """Return photos before and after, who is protected from what, and what it is worth."""
        from countermove.faces.panels import panels

        return panels(self, run, results)

    def faces(self, spelled: str) -> FaceSet:
        """Return a face set; read once."""
        if spelled not in self._sets:
            self._sets[spelled] = self.composed("data", spelled).method()
        return self._sets[spelled]

    def _made_on(self, move: str, model: str) -> tuple[str, ...]:
        """Return the extractors of a cloak, the trainer's own in the place of `target`."""
        from countermove.faces.extractor import TARGET

        own = self.extractor(model)
        return tuple(own if name == TARGET else name for name in self.composed("move", move).method.surrogates())

    def _extractor_task(self, setting: Setting, spelled: str, payer: Payer = "trainer") -> Task:
        from countermove.faces.extractor import identity

        if spelled not in self._extractors:  # public weights are hashed for it
            self._extractors[spelled] = identity(spelled, rehash=self.rules.rehash)
        payload = {**self._common(setting), "extractor": self._extractors[spelled]}
        return Task("extractor", f"extractor {spelled} | {setting.data} | seed {setting.seed}", payload, payer=payer)

    def _surrogate_tasks(self, setting: Setting, move: str, payer: Payer) -> tuple[Task, ...]:
        return tuple(self._extractor_task(setting, name, payer) for name in self._made_on(move, setting.model))

    def _move_task(self, setting: Setting) -> Task | None:
        if self.composed("move", setting.move).is_none:
            return None
        payload = {**self._common(setting), "move": self._identity("move", setting.move)}
        label = f"cloak {setting.move} | {setting.data} | seed {setting.seed}"
        return Task("move", label, payload, self._surrogate_tasks(setting, setting.move, "mover"), payer="mover")

    def _known_tasks(self, setting: Setting, asked: Knowing) -> tuple[Task, ...]:
        """Return the public's photos, cloaked with what the trainer has; none where it meets none and has none."""
        met = () if self.composed("move", setting.move).is_none else (setting.move,)
        return tuple(
            Task(
                "known",
                f"cloak the public's photos with {move} | {setting.data} | seed {setting.seed}",
                {**self._common(setting), "move": self._identity("move", move), "photos": asked.photos},
                self._surrogate_tasks(setting, move, "trainer"),
            )
            for move in asked.known or met
        )

    def _trained_task(self, setting: Setting, kind: str, asked: Knowing, extractor: str) -> Task:
        from countermove.finetuning.adaptation import key_of

        own = (self._extractor_task(setting, extractor),) if extractor else ()
        known = self._known_tasks(setting, asked)
        spent = {key: value for key, value in asdict(asked).items() if key not in ("known", "probes")}
        payload = {**self._common(setting), "asked": spent, **key_of(spent)}
        with_ = ", ".join(task.payload["move"]["spelling"] for task in known) or "clean photos alone"
        label = f"{kind} {extractor} on {with_} | {setting.data} | seed {setting.seed}"
        return Task(kind, label, payload, (*own, *known))

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
                "faces": faces.VERSION,
            },
        }
