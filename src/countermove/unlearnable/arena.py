"""The rules of this arena: what a cell needs, what it is measured against, what a payoff is. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from countermove import learning, nets, pixels
from countermove.errors import ConfigError
from countermove.game import spelling
from countermove.game.arena import Control, Number, Panel, Rules, Yardstick
from countermove.game.cell import Crafted, Desk, Outcome, Setting, Task
from countermove.game.methods import Composition, Methods, Spelled, build
from countermove.learning.recipe import Recipe
from countermove.unlearnable.data.sources import MODIFIERS
from countermove.unlearnable.methods import METHODS

if TYPE_CHECKING:
    from countermove.game.results import Results
    from countermove.game.store import RunFolder
    from countermove.unlearnable.dataset import DataSet

DIAGNOSTIC, FINE_TUNING = "left-out", "fine-tuning"


class Unlearnable:
    """Training pictures that nobody shall learn from."""

    name = "unlearnable"
    unit = "test picture"
    metric = "accuracy"
    metrics: tuple[str, ...] = ("accuracy", "accuracy_best", "accuracy_early", "train_accuracy")
    reply_floor: float | None = None
    yardstick = Yardstick()

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        spelled = Spelled(METHODS, rehash=rules.rehash)
        self.composed, self._identity = spelled.composed, spelled.identity
        self._data: dict[str, DataSet] = {}

    @property
    def methods(self) -> Methods:
        """Return every poison, countermeasure, network and data set."""
        return METHODS

    @cached_property
    def recipe(self) -> Recipe:
        """Return how models are trained."""
        return build(Recipe, self.rules.training, what="[training]")

    def check(self, axes: Mapping[str, Sequence[str]]) -> None:
        """Refuse axes that do not fit this arena."""
        _ = self.recipe
        for spelled in axes["data"]:
            first, *others = (part.name for part in self.composed("data", spelled).parts)
            if first in MODIFIERS or set(others) - set(MODIFIERS):
                raise ConfigError(
                    f"data {spelled!r} is refused: one data set, and +moved(...) or +extra-class(...) behind it"
                )
            if self._by_class(spelled):
                self.data(spelled, 0)  # only the data know their classes
        for kind in ("move", "model"):
            for spelled in axes[kind]:
                _ = self.composed(kind, spelled).method
        for spelled in axes["countermove"]:
            names = [part.name for part in self.composed("countermove", spelled).parts]
            if DIAGNOSTIC in names:
                raise ConfigError(
                    f"{DIAGNOSTIC!r} is a diagnostic, not a reply: it is played by itself where only a part of the "
                    "data is moved, as in cifar10-mini+moved(fraction=0.5)"
                )

    def controls(self, data: str) -> Sequence[Control]:
        """Return LSP against gray, scaled to the pictures' side: 6/255 a value, four patches across."""
        side = self._side(data)
        if side == 32:
            return (Control(move="linear-separable", countermove="gray"),)
        patch = max(p for p in range(1, max(2, side // 4 + 1)) if side % p == 0)
        spelled = f"linear-separable(eps={round(1.304 * side / 32, 3)}, patch_size={patch})"
        return (Control(move=self.composed("move", spelled).spelling, countermove="gray"),)

    def extra_countermoves(self, data: str) -> Sequence[str]:
        """Return the diagnostic that leaves moved pictures out, where not all are moved."""
        return (DIAGNOSTIC,) if self._partly(data) else ()

    def reference(self, setting: Setting) -> Setting:
        """Return the same data, model and seed without move and countermove."""
        return Setting(setting.arena, setting.data, "none", "none", setting.model, setting.seed)

    def access(self, setting: Setting) -> str:
        """Return white where a surrogate is the victim's own network, gray where it is another, near-black without.

        Every poison of this arena knows its pictures and their labels, and none the weights of the victim, which does
        not exist yet.
        """
        composed = self.composed("move", setting.move)
        if composed.is_none:
            return ""
        networks = _networks(self, composed.parts[0].settings)
        if not networks:
            return "near-black"
        return "white" if setting.model in networks else "gray"

    def payoff(self, mean: Number, reference: Number, chance: float | None) -> Number:
        """Return the share of what could be learned that the move takes away: 1 means accuracy at chance."""
        assert chance is not None, "classifiers have a chance level"
        return (reference - mean) / (reference - chance)

    def not_learned(self, metrics: Mapping[str, float]) -> str:
        """Return nothing: accuracies have a chance level, which the game looks at."""
        return ""

    def cell(self, setting: Setting) -> Task:
        """Return the cell with the move and the surrogate that it needs."""
        payload = {
            **self._common(setting),
            "move": setting.move,
            "countermove": self._identity("countermove", setting.countermove),
            "model": self._identity("model", setting.model),
            "training": self.recipe.identity(),
        }
        move = self.move_task(setting)
        needs = (move,) if move else ()
        if ways := self._adaptations(setting.countermove):
            needs = (*needs, self._trained_task(setting, needs))
            payload["adaptation"] = ways
        return Task("cell", setting.label, payload, needs=needs, setting=setting)

    def _adaptations(self, countermove: str) -> list[dict[str, Any]]:
        """Return what of a fine-tuning's adaptation enters a key, for a reply that goes on after the training."""
        from countermove.finetuning.adaptation import identity

        parts = self.composed("countermove", countermove).parts
        return [identity(part.method.adaptation) for part in parts if part.name == FINE_TUNING]

    def _trained_task(self, setting: Setting, needs: tuple[Task, ...]) -> Task:
        """Return the model that was trained on what was received, before it is fine-tuned."""
        parts = [part.spoken for part in self.composed("countermove", setting.countermove).parts]
        reply = spelling.spell([part for part in parts if part.name != FINE_TUNING]) or "none"
        payload = {
            **self._common(setting),
            "move": setting.move,
            "countermove": self._identity("countermove", reply),
            "model": self._identity("model", setting.model),
            "training": self.recipe.identity(),
        }
        label = f"train {setting.model} | {setting.move} | {reply} | {setting.data} | seed {setting.seed}"
        return Task("trained", label, payload, needs)

    def move_task(self, setting: Setting) -> Task | None:
        """Return the artifact with the moved pictures, None for move none."""
        move = self.composed("move", setting.move)
        if move.is_none:
            return None
        payload = {**self._common(setting), "move": self._identity("move", setting.move)}
        asked = getattr(move.method, "surrogates", tuple)()
        needs = tuple(self._surrogate_task(setting, surrogate) for surrogate in asked)
        label = f"craft {setting.move} | {setting.data} | seed {setting.seed}"
        return Task("move", label, payload, needs, payer="mover")

    def _surrogate_task(self, setting: Setting, surrogate: Any) -> Task:
        payload = {
            **self._common(setting),
            "model": self._identity("model", surrogate.model),
            **surrogate.identity(),
        }
        label = f"train surrogate {surrogate.model} | {setting.data} | seed {setting.seed}"
        return Task("surrogate", label, payload, payer="mover")

    def samples(self, task: Task) -> int:
        """Return how many pictures a training passes over."""
        pictures = self.data(task.payload["data"]["spelling"], task.payload["seed"]).train
        return self.recipe.epochs * len(pictures)

    def make(self, task: Task, desk: Desk) -> Crafted:
        """Train a surrogate, craft a move, or train what is fine-tuned later."""
        from countermove.unlearnable import play

        work = {"surrogate": play.train_surrogate, "move": play.craft, "trained": play.make_trained}
        return work[task.kind](self, task, desk)

    def play(self, task: Task, desk: Desk) -> Outcome:
        """Train a model on what was received and score it."""
        from countermove.unlearnable import play

        return play.play_cell(self, task, desk)

    def panels(self, run: RunFolder, results: Results) -> Sequence[Panel]:
        """Return the pictures before and after, and the spectra of the noise."""
        from countermove.unlearnable.panels import panels

        return panels(self, run, results)

    def data(self, spelled: str, seed: int) -> DataSet:
        """Return a data set with the seed's choice of moved pictures; the pictures are read once."""
        first, *modifiers = self.composed("data", spelled).parts
        name = Composition((first,)).spelling
        if name not in self._data:
            self._data[name] = first.method()
        data = self._data[name]
        for modifier in modifiers:
            data = modifier.method(data, seed=seed)
        return data

    def _common(self, setting: Setting) -> dict[str, Any]:
        """Return what every task of a grid point depends on."""
        return {
            "arena": self.name,
            "data": self._identity("data", setting.data),
            "seed": setting.seed,
            "threads": self.rules.threads,
            "device": self.rules.device,
            "rooms": {"pixels": pixels.VERSION, "learning": learning.VERSION, "nets": nets.VERSION},
        }

    def _partly(self, data: str) -> bool:
        if self._by_class(data):
            return not bool(self.data(data, 0).moved.all())
        return any(part.method.fraction < 1 for part in self.composed("data", data).parts if part.name == "moved")

    def _by_class(self, data: str) -> bool:
        """Return whether classes are named that only the data know."""
        parts = self.composed("data", data).parts
        return any(part.name == "extra-class" or (part.name == "moved" and part.method.classes) for part in parts)

    def _side(self, data: str) -> int:
        """Return the pictures' side; reads them only where their method does not say."""
        side = getattr(self.composed("data", data).parts[0].method, "side", None)
        return int(side or self.data(data, 0).train.pictures.shape[-1])


def _networks(arena: Unlearnable, settings: Mapping[str, Any]) -> set[str]:
    """Return the networks that a poison uses, also through the poisons that it is made of."""
    found = {arena.composed("model", settings["surrogate"]).spelling} if "surrogate" in settings else set()
    for name in ("first", "second", "poison"):
        if name in settings:
            found |= _networks(arena, arena.composed("move", settings[name]).parts[0].settings)
    return found
