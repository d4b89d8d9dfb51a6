"""The rules of this arena: what a cell needs, what it is measured against, what a payoff is. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from countermove import learning, nets, pixels, retrieval
from countermove.errors import ConfigError
from countermove.game import spelling
from countermove.game.arena import Control, Number, Panel, Rules, Yardstick
from countermove.game.cell import Crafted, Desk, Outcome, Payer, Setting, Task
from countermove.game.methods import Methods, Spelled
from countermove.retrieval.methods import METHODS

if TYPE_CHECKING:
    from countermove.game.results import Results
    from countermove.game.store import RunFolder
    from countermove.retrieval.collection import Collection
    from countermove.retrieval.plan import Known, Plan, Purification

NONE = "none"
ABOVE_CHANCE, LEAST = 0.05, 1e-12


class Retrieval:
    """Queries that shall not find what they show.

    map_before and map_after are mean average precisions of the untouched and of the changed queries, under the same
    countermove; ssim is that of changed queries as they are saved.
    """

    name = "retrieval"
    unit = "query"
    metric = "map_before"
    metrics: tuple[str, ...] = ("map_before", "map_after", "ssim")
    reply_floor: float | None = None
    yardstick = Yardstick(bystanders=True)

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        spelled = Spelled(METHODS, rehash=rules.rehash)
        self.composed, self._identity = spelled.composed, spelled.identity
        self._collections: dict[str, Collection] = {}
        self._backbones: dict[str, dict[str, Any]] = {}

    @property
    def methods(self) -> Methods:
        """Return every query, edit, reply, engine and collection."""
        return METHODS

    def check(self, axes: Mapping[str, Sequence[str]]) -> None:
        """Refuse axes that do not fit this arena."""
        from countermove.retrieval.backbone import TARGET, stolen

        if self.rules.training:
            raise ConfigError("the retrieval arena takes no [training] table: backbones have their own settings")
        for kind in ("data", "move", "model"):
            for spelled in axes[kind]:
                _ = self.composed(kind, spelled).method
        for model in axes["model"]:
            if stolen(self.backbone(model) or ""):
                raise ConfigError(f"model {model!r} is refused: a stolen backbone is made from another engine's lists")
        blind = [model for model in axes["model"] if self.backbone(model) is None]
        for move in axes["move"]:
            if blind and TARGET in self._surrogates(move):
                raise ConfigError(
                    f"move {move!r} is made on the engine's own backbone ({TARGET}), and {blind[0]} has none; name "
                    "another one: backbones=[plain]"
                )
        for spelled in axes["countermove"]:
            plan = self.plan(spelled)
            learned = [one for one in (plan.adaptation, plan.purification) if one is not None]
            met = [move for one in learned for move in one.known]
            met += [plan.leaked.move] if plan.leaked is not None and plan.leaked.move else []
            for move in met:
                if blind and TARGET in self._surrogates(move):
                    raise ConfigError(
                        f"countermove {spelled!r} knows {move}, which is made on the engine's own backbone ({TARGET}), "
                        f"and {blind[0]} has none; name another one: backbones=[plain]"
                    )
            if blind and plan.adaptation is not None:
                raise ConfigError(f"countermove {spelled!r} goes on training a backbone, and {blind[0]} has none")

    def controls(self, data: str) -> Sequence[Control]:
        """Return none: no reply is known that must undo a change of every engine's queries."""
        return ()

    def extra_countermoves(self, data: str) -> Sequence[str]:
        """Return nothing."""
        return ()

    def reference(self, setting: Setting) -> Setting:
        """Return the same queries, engine and seed, with nothing done by anybody."""
        return Setting(setting.arena, setting.data, NONE, NONE, setting.model, setting.seed)

    def access(self, setting: Setting) -> str:
        """Return white for a query made on the engine's own backbone, near-black for all others."""
        if self.composed("move", setting.move).is_none:
            return ""
        return "white" if self.backbone(setting.model) in self._made_on(setting.move, setting.model) else "near-black"

    def payoff(self, mean: Number, reference: Number, chance: float | None) -> Number:
        """Return the share of the mean average precision that is lost."""
        return (reference - mean) / (reference + LEAST)

    def not_learned(self, metrics: Mapping[str, float]) -> str:
        """Return why an engine proves nothing that hardly finds more than a random order would."""
        if metrics["map_before"] >= metrics["map_chance"] + ABOVE_CHANCE:
            return ""
        return (
            f"the engine's mean average precision is {metrics['map_before']:.2f} without any move, a random order's "
            f"{metrics['map_chance']:.2f}"
        )

    def plan(self, countermove: str) -> Plan:
        """Return what a countermove makes of the owner's plan."""
        from countermove.retrieval.plan import Plan

        plan = Plan()
        for part in self.composed("countermove", countermove).parts:
            plan = part.method(plan)
        return plan

    def backbone(self, model: str) -> str | None:
        """Return the canonical spelling of an engine's backbone, None where it has none."""
        return self.composed("model", model).method.looks()

    def cell(self, setting: Setting) -> Task:
        """Return the cell with the indexes, changed queries and trained helpers that it needs."""
        plan, move = self.plan(setting.countermove), self._move_task(setting)
        needs = [] if move is None else [move]
        needs += [self._index_task(setting, model) for model in (setting.model, *plan.engines)]
        if plan.purification is not None:
            needs.append(self._purifier_task(setting, plan.purification))
        if plan.leaked is not None and (plan.leaked.move or move is not None):
            needs.append(self._leak_task(setting, plan.leaked.move or setting.move, plan.leaked.share))
        payload = {
            **self._common(setting),
            "move": setting.move,
            "countermove": self._identity("countermove", setting.countermove),
            "model": self._identity("model", setting.model),
        }
        return Task("cell", setting.label, payload, needs=tuple(dict.fromkeys(needs)), setting=setting)

    def samples(self, task: Task) -> int:
        """Return how many queries a cell sends."""
        return 2 * len(self.collection(task.payload["data"]["spelling"]).queries)

    def make(self, task: Task, desk: Desk) -> Crafted:
        """Make an artifact."""
        from countermove.retrieval import artifacts, play

        play.set_threads(self.rules.threads)
        work = {
            "backbone": artifacts.make_backbone,
            "index": artifacts.make_index,
            "move": artifacts.change_queries,
            "leak": artifacts.change_answers,
            "known": artifacts.change_public,
            "adapted": artifacts.adapt,
            "purifier": artifacts.make_purifier,
        }
        return work[task.kind](self, task, desk)

    def play(self, task: Task, desk: Desk) -> Outcome:
        """Search with every query, as it is and changed."""
        from countermove.retrieval import play

        play.set_threads(self.rules.threads)
        return play.play_cell(self, task, desk)

    def panels(self, run: RunFolder, results: Results) -> Sequence[Panel]:
        """Return queries before and after with what they find, and how engines rank."""
        from countermove.retrieval.panels import panels

        return panels(self, run, results)

    def collection(self, spelled: str) -> Collection:
        """Return a collection; opened once."""
        if spelled not in self._collections:
            self._collections[spelled] = self.composed("data", spelled).method()
        return self._collections[spelled]

    def _surrogates(self, move: str) -> tuple[str, ...]:
        return self.composed("move", move).method.surrogates()

    def _made_on(self, move: str, model: str) -> tuple[str, ...]:
        """Return the backbones of a query, the engine's own in the place of `target`."""
        from countermove.retrieval.backbone import TARGET

        own = self.backbone(model)
        return tuple(own or name if name == TARGET else name for name in self._surrogates(move))

    def _backbone_task(self, setting: Setting, spelled: str, payer: Payer = "trainer") -> Task:
        from countermove.retrieval.backbone import identity, stolen

        if spelled not in self._backbones:  # public weights are hashed for it
            self._backbones[spelled] = identity(spelled, rehash=self.rules.rehash)
        payload = {**self._common(setting), "backbone": self._backbones[spelled]}
        label = f"backbone {spelled} | {setting.data} | seed {setting.seed}"
        if not stolen(spelled):
            return Task("backbone", label, payload, payer=payer)
        asked = self._index_task(replace(setting, countermove=NONE), setting.model)  # before its owner's reply
        return Task("backbone", f"{label}, from {setting.model}", payload, (asked,), payer=payer)

    def _index_task(self, setting: Setting, model: str) -> Task:
        """Return an engine's index, of what the reply makes of its pictures and its backbone."""
        plan, own = self.plan(setting.countermove), self.backbone(model)
        needs: list[Task] = []
        if own is not None:
            base = self._backbone_task(setting, own)
            adapted = plan.adaptation is not None
            needs.append(self._trained_task(setting, "adapted", plan.adaptation, (base,)) if adapted else base)
        if plan.purification is not None and plan.purification.indexed:
            needs.append(self._purifier_task(setting, plan.purification))
        through = self._through(setting.countermove)
        payload = {
            **self._common(setting),
            "model": self._identity("model", model),
            "through": self._identity("countermove", through),
        }
        about = ", adapted" if plan.adaptation is not None else ""
        about += "" if through == NONE else f" through {through}"
        return Task("index", f"index {model}{about} | {setting.data} | seed {setting.seed}", payload, tuple(needs))

    def _through(self, reply: str) -> str:
        """Return the parts of a reply that indexed pictures go through as well."""
        from countermove.retrieval.plan import Plan

        parts = self.composed("countermove", reply).parts
        return spelling.spell([part.spoken for part in parts if part.method(Plan()).indexed]) or NONE

    def _purifier_task(self, setting: Setting, asked: Purification) -> Task:
        own = self.backbone(setting.model)
        return self._trained_task(
            setting, "purifier", asked, () if own is None else (self._backbone_task(setting, own),)
        )

    def _move_task(self, setting: Setting) -> Task | None:
        if self.composed("move", setting.move).is_none:
            return None
        payload = {**self._common(setting), "move": self._identity("move", setting.move)}
        needs = tuple(
            self._backbone_task(setting, name, "mover") for name in self._made_on(setting.move, setting.model)
        )
        label = f"queries {setting.move} | {setting.data} | seed {setting.seed}"
        return Task("move", label, payload, needs, payer="mover")

    def _leak_task(self, setting: Setting, move: str, share: float) -> Task:
        payload = {**self._common(setting), "move": self._identity("move", move), "share": share}
        needs = tuple(self._backbone_task(setting, name) for name in self._made_on(move, setting.model))
        return Task("leak", f"answers changed by {move} | {setting.data} | seed {setting.seed}", payload, needs)

    def _known_tasks(self, setting: Setting, asked: Known) -> tuple[Task, ...]:
        """Return public pictures, changed with what the owner has; none where they meet nothing and have nothing."""
        met = () if self.composed("move", setting.move).is_none else (setting.move,)
        return tuple(
            Task(
                "known",
                f"change public pictures with {move} | {setting.data} | seed {setting.seed}",
                {**self._common(setting), "move": self._identity("move", move), "pictures": asked.pictures},
                tuple(self._backbone_task(setting, name) for name in self._made_on(move, setting.model)),
            )
            for move in asked.known or met
        )

    def _trained_task(self, setting: Setting, kind: str, asked: Any, base: tuple[Task, ...]) -> Task:
        from countermove.finetuning.adaptation import key_of

        known = self._known_tasks(setting, asked)
        spent = {key: value for key, value in asdict(asked).items() if key not in ("known", "indexed")}
        payload = {**self._common(setting), "asked": spent, **key_of(spent)}
        with_ = ", ".join(task.payload["move"]["spelling"] for task in known) or "clean pictures alone"
        return Task(kind, f"{kind} on {with_} | {setting.data} | seed {setting.seed}", payload, (*base, *known))

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
                "retrieval": retrieval.VERSION,
            },
        }
