"""The rules of this arena: what a cell needs, what it is measured against, what a payoff is. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from countermove import finetuning, learning, nets, pixels, tasks
from countermove.errors import ConfigError, did_you_mean
from countermove.game.arena import Control, Number, Panel, Rules, Yardstick
from countermove.game.cell import Crafted, Desk, Outcome, Setting, Task
from countermove.game.methods import Methods, Spelled
from countermove.tasks.methods import METHODS

if TYPE_CHECKING:
    from countermove.game.results import Results
    from countermove.game.store import RunFolder
    from countermove.tasks.fitting import Recipe
    from countermove.tasks.task import PictureTask, TextTask

NONE = "none"
TRAINING = ("epochs", "batch_size", "warmup")


class Tasks:
    """A published network learns a task: how little of it must change?

    Everything is measured against full fine-tuning: the payoff is the share of its lead over the largest class that a
    cheaper adaptation leaves on the table. accuracy is on test texts or pictures, matthews their Matthews correlation
    (two classes alone), sparsity the share of zeros over masks.
    """

    name = "tasks"
    unit = "test example"
    metric = "accuracy"
    metrics: tuple[str, ...] = ("accuracy", "matthews", "sparsity")
    reply_floor: float | None = None
    yardstick = Yardstick()

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        spelled = Spelled(METHODS, rehash=rules.rehash)
        self.composed, self._identity = spelled.composed, spelled.identity
        self._tasks: dict[str, TextTask | PictureTask] = {}
        self._contents: dict[str, str] = {}

    @property
    def methods(self) -> Methods:
        """Return every adaptation, network and task."""
        return METHODS

    @property
    def recipe(self) -> Recipe:
        """Return how networks learn tasks."""
        from countermove.tasks.fitting import Recipe

        unknown = sorted(set(self.rules.training) - set(TRAINING))
        if unknown:
            raise ConfigError(f"training has no setting {unknown[0]!r}: {did_you_mean(unknown[0], TRAINING)}")
        return Recipe(**self.rules.training)

    def check(self, axes: Mapping[str, Sequence[str]]) -> None:
        """Refuse what does not fit: moves, several adaptations in one, networks of another medium or not there."""
        from countermove.tasks.task import medium_of

        _ = self.recipe
        for kind in ("data", "move", "countermove", "model"):
            for spelled in axes[kind]:
                _ = self.composed(kind, spelled).method
        for model in axes["model"]:
            method = self.composed("model", model).method
            for data in axes["data"]:
                wanted = medium_of(self.composed("data", data).method)
                if medium_of(method) != wanted:
                    raise ConfigError(
                        f"model {model!r} is for {medium_of(method)}s and data {data!r} is of {wanted}s; "
                        "play texts and pictures in audits of their own"
                    )
            method.check()

    def controls(self, data: str) -> Sequence[Control]:
        """Return nothing: nobody moves."""
        return ()

    def extra_countermoves(self, data: str) -> Sequence[str]:
        """Return nothing."""
        return ()

    def reference(self, setting: Setting) -> Setting:
        """Return full fine-tuning on the same task with the same seed, at the learning rate that suits the network."""
        return Setting(setting.arena, setting.data, NONE, self.full(setting.model), setting.model, setting.seed)

    def full(self, model: str) -> str:
        """Return how full fine-tuning of a network is spelled."""
        rate = self.composed("model", model).method.full_lr
        return self.composed("countermove", f"full(lr={rate!r})").spelling

    def access(self, setting: Setting) -> str:
        """Return nothing: nobody moves."""
        return ""

    def payoff(self, mean: Number, reference: Number, chance: float | None) -> Number:
        """Return what share of full fine-tuning's lead over the largest class is not reached."""
        assert chance is not None, "tasks have classes"
        return (reference - mean) / (reference - chance)

    def not_learned(self, metrics: Mapping[str, float]) -> str:
        """Return nothing: guessing reaches the share of the largest class, and the game knows that."""
        return ""

    def cell(self, setting: Setting) -> Task:
        """Return the cell, and the pre-trained network that it needs. The network is the same for all seeds."""
        model = self._identity("model", setting.model)
        if setting.model not in self._contents:
            method = self.composed("model", setting.model).method
            self._contents[setting.model] = method.content(device=self.rules.device, rehash=self.rules.rehash)
        base = Task(
            "base",
            f"network {setting.model}",
            {"arena": self.name, "model": model, "content": self._contents[setting.model], "rooms": _rooms()},
        )
        payload = {
            "arena": self.name,
            "data": self._identity("data", setting.data),
            "countermove": self._identity("countermove", setting.countermove),
            "model": model,
            "training": asdict(self.recipe),
            "seed": setting.seed,
            "threads": self.rules.threads,
            "device": self.rules.device,
            "rooms": _rooms(),
        }
        return Task("cell", setting.label, payload, needs=(base,), setting=setting)

    def samples(self, task: Task) -> int:
        """Return how many texts or pictures go forward and back."""
        return self.recipe.epochs * len(self.task(task.payload["data"]["spelling"]).train)

    def make(self, task: Task, desk: Desk) -> Crafted:
        """Find or pre-train a network."""
        from countermove.tasks import play

        return play.make_base(self, task, desk)

    def play(self, task: Task, desk: Desk) -> Outcome:
        """Adapt the network to the task and test it."""
        from countermove.tasks import play

        return play.play_cell(self, task, desk)

    def panels(self, run: RunFolder, results: Results) -> Sequence[Panel]:
        """Return what every adaptation reaches and takes, and where networks moved."""
        from countermove.tasks.panels import panels

        return panels(self, run, results)

    def task(self, spelled: str) -> TextTask | PictureTask:
        """Return a task; read once."""
        if spelled not in self._tasks:
            self._tasks[spelled] = self.composed("data", spelled).method()
        return self._tasks[spelled]


def _rooms() -> dict[str, int]:
    rooms = {"tasks": tasks, "finetuning": finetuning, "learning": learning, "nets": nets, "pixels": pixels}
    return {name: room.VERSION for name, room in rooms.items()}
