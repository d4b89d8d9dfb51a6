"""The rules of this arena: what a cell needs, what it is measured against, what a payoff is. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from countermove import learning, nets, pixels, profiles
from countermove.errors import ConfigError, DataError
from countermove.game import spelling
from countermove.game.arena import Control, Number, Panel, Rules, Yardstick
from countermove.game.cell import Crafted, Desk, Outcome, Payer, Setting, Task
from countermove.game.methods import Methods, Spelled
from countermove.profiles.methods import METHODS

if TYPE_CHECKING:
    from countermove.game.results import Results
    from countermove.game.store import RunFolder
    from countermove.profiles.dataset import Profiles as ProfileSet
    from countermove.profiles.plan import Plan

NONE = "none"
CONTROL = Control(move="nat-i(choice=best)", countermove="back-off", works=0.3)


class Profiles:
    """Profiles that shall not tell an attribute of their owner.

    accuracy and clean_accuracy are shares of test profiles that are read rightly, with the additions and without them,
    by the same profiler under the same countermove; attention_on_additions is the share of a profile's weight that
    additions get, where a profiler weighs items.
    """

    name = "profiles"
    unit = "profile"
    metric = "clean_accuracy"
    metrics: tuple[str, ...] = ("accuracy", "clean_accuracy", "attention_on_additions")
    reply_floor: float | None = None
    yardstick = Yardstick(bystanders=True)

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        spelled = Spelled(METHODS, rehash=rules.rehash)
        self.composed, self._identity = spelled.composed, spelled.identity
        self._sets: dict[str, ProfileSet] = {}
        self._extractors: dict[str, dict[str, Any]] = {}

    @property
    def methods(self) -> Methods:
        """Return every pivot, countermeasure, profiler and profile set."""
        return METHODS

    def check(self, axes: Mapping[str, Sequence[str]]) -> None:
        """Refuse axes that do not fit this arena."""
        if self.rules.training:
            raise ConfigError(
                "the profiles arena takes no [training] table: extractors and profilers have their own settings"
            )
        for kind in ("data", "move", "model"):
            for spelled in axes[kind]:
                _ = self.composed(kind, spelled).method
        plans = {spelled: self.plan(spelled) for spelled in axes["countermove"]}
        for data in axes["data"]:
            self._check_medium(data, axes, plans)

    def _check_medium(self, data: str, axes: Mapping[str, Sequence[str]], plans: Mapping[str, Plan]) -> None:
        """Refuse what is made for another medium than the items of a set."""
        from countermove.profiles.extractor import check_medium, read_extractor

        found = self.profiles(data)
        for model in axes["model"]:
            spelled, extractor = self.composed("model", model).method.looks()
            check_medium(extractor, found, spelled)
            if extractor.learned and found.captions.shape[1]:
                raise ConfigError(f"model {model!r} reads items alone, and {data} has captions; give it an extractor")
        for move in axes["move"]:
            method = self.composed("move", move).method
            known = method.knows()
            if known is not None and known.box == "near-black":
                check_medium(read_extractor(known.features, move)[1], found, known.features)
            if method.changes and found.medium == "table":
                raise ConfigError(f"move {move!r} makes items, and {data} holds features; only nat-i can add to it")
        for spelled, plan in plans.items():
            for one in plan.squeezes:
                if one.medium != found.medium:
                    raise ConfigError(f"countermove {spelled!r} is for {one.medium}; {data} holds {found.medium}")

    def controls(self, data: str) -> Sequence[Control]:
        """Return a pivot that knows the profiler against reading what was there before.

        Leaving out the newest half of profiles that doubled leaves exactly the owners' own items. Where there is too
        little that may be added, there is no control.
        """
        try:
            found = self.profiles(data)
        except DataError:  # a page is rebuilt where the data are gone
            return (CONTROL,)
        enough = len(found.background) // 2 > max(found.lengths(found.test))
        return (CONTROL,) if enough else ()

    def extra_countermoves(self, data: str) -> Sequence[str]:
        """Return nothing."""
        return ()

    def reference(self, setting: Setting) -> Setting:
        """Return the same profiles, profiler and seed, with nothing done by anybody."""
        return Setting(setting.arena, setting.data, NONE, NONE, setting.model, setting.seed)

    def access(self, setting: Setting) -> str:
        """Return the pivot's box; near-black for one that knows nothing or a profiler other than the one it meets."""
        from countermove.profiles.pivot import TARGET

        move = self.composed("move", setting.move)
        if move.is_none:
            return ""
        known = move.method.knows()
        if known is None or known.model not in (TARGET, setting.model):
            return "near-black"
        return known.box

    def payoff(self, mean: Number, reference: Number, chance: float | None) -> Number:
        """Return what of the accuracy beyond guessing is lost; above 1 where profiles are read wrongly on purpose."""
        assert chance is not None, "profiles have classes"
        return (reference - mean) / (reference - chance)

    def not_learned(self, metrics: Mapping[str, float]) -> str:
        """Return nothing: guessing reaches the share of the largest class, and the game knows that."""
        return ""

    def plan(self, countermove: str) -> Plan:
        """Return what a countermove makes of the profiler's plan."""
        from countermove.profiles.plan import Plan

        plan = Plan()
        for part in self.composed("countermove", countermove).parts:
            plan = part.method(plan)
        return plan

    def cell(self, setting: Setting) -> Task:
        """Return the cell with the extractor, profiler, additions and detector that it needs."""
        plan, move = self.plan(setting.countermove), self._move_task(setting)
        poisons = move is not None and self._poisons(setting.move)
        profiler = self._profiler_task(
            setting, setting.model, reply=setting.countermove, poison=move if poisons else None
        )
        needs = [*(need for need in profiler.needs if need.kind == "extractor"), profiler]
        if move is not None and not poisons:
            needs.append(move)
        if plan.detection is not None:
            known = self._known_tasks(setting, plan.detection.known, share=1.0)
            asked = {key: value for key, value in asdict(plan.detection).items() if key not in ("known", "drop")}
            payload = {
                **self._common(setting),
                "asked": {**asked, "drop": True},
                "filters": self._identity("countermove", self._parts_with(setting.countermove, "filters")),
            }
            label = f"detector for {setting.model} | {setting.data} | seed {setting.seed}"
            needs.append(Task("detector", label, payload, (profiler, *known)))
        payload = {
            **self._common(setting),
            "move": setting.move,
            "countermove": self._identity("countermove", setting.countermove),
            "model": self._identity("model", setting.model),
        }
        return Task("cell", setting.label, payload, needs=tuple(needs), setting=setting)

    def samples(self, task: Task) -> int:
        """Return how many items a cell reads."""
        found = self.profiles(task.payload["data"]["spelling"])
        return 3 * sum(found.lengths(found.test))

    def make(self, task: Task, desk: Desk) -> Crafted:
        """Make an artifact."""
        from countermove.profiles import artifacts, play

        play.set_threads(self.rules.threads)
        work = {
            "extractor": artifacts.make_extractor,
            "profiler": artifacts.make_profiler,
            "move": artifacts.pivot,
            "known": artifacts.pivot_known,
            "detector": artifacts.make_detector,
        }
        return work[task.kind](self, task, desk)

    def play(self, task: Task, desk: Desk) -> Outcome:
        """Read every test profile, as it is and with what its owner added."""
        from countermove.profiles import play

        play.set_threads(self.rules.threads)
        return play.play_cell(self, task, desk)

    def panels(self, run: RunFolder, results: Results) -> Sequence[Panel]:
        """Return profiles before and after, how surely each number is known, and what detectors found."""
        from countermove.profiles.panels import panels

        return panels(self, run, results)

    def profiles(self, spelled: str) -> ProfileSet:
        """Return a profile set; read once."""
        if spelled not in self._sets:
            self._sets[spelled] = self.composed("data", spelled).method()
        return self._sets[spelled]

    def _poisons(self, move: str) -> bool:
        return hasattr(self.composed("move", move).method, "takes_part")

    def _extractor_task(self, setting: Setting, spelled: str, payer: Payer = "trainer") -> Task:
        from countermove.profiles.extractor import identity

        if spelled not in self._extractors:  # public weights are hashed for it
            self._extractors[spelled] = identity(spelled, rehash=self.rules.rehash)
        payload = {**self._common(setting), "extractor": self._extractors[spelled]}
        return Task("extractor", f"extractor {spelled} | {setting.data} | seed {setting.seed}", payload, payer=payer)

    def _profiler_task(
        self,
        setting: Setting,
        model: str,
        *,
        reply: str = NONE,
        share: float = 1.0,
        poison: Task | None = None,
        payer: Payer = "trainer",
    ) -> Task:
        """Return the profiler that a trainer with a reply has, or one like it, trained on a share of the profiles."""
        from countermove.finetuning.adaptation import identity as adaptation_identity
        from countermove.profiles.extractor import identity

        spelled, extractor = self.composed("model", model).method.looks()
        needs = [] if extractor.learned else [self._extractor_task(setting, spelled, payer)]
        pivoted = self.plan(reply).pivoted
        if pivoted is not None:
            needs += self._known_tasks(setting, pivoted.known, share=pivoted.share)
        needs += [] if poison is None else [poison]
        adapted = {}
        if pivoted is not None and pivoted.adaptation:
            needs.append(self._profiler_task(setting, model, share=share, payer=payer))
            adapted = {"adaptation": adaptation_identity(pivoted.adaptation)}
        through = self._through(reply)
        payload = {
            **self._common(setting),
            "model": self._identity("model", model),
            "through": self._identity("countermove", through),
            "share": share,
            "learned": identity(spelled) if extractor.learned else None,
            **adapted,
        }
        about = "" if share == 1 else f" on {share:g} of the profiles"
        about += "" if through == NONE else f" through {through}"
        about += "" if pivoted is None else ", pivoted ones among them"
        about += "".join(f", {way['spelling']}" for way in adapted.values())
        label = f"profiler {model}{about} | {setting.data} | seed {setting.seed}"
        return Task("profiler", label, payload, tuple(needs), payer=payer)

    def _through(self, reply: str) -> str:
        """Return the parts of a reply that training profiles go through as well."""
        return self._parts_with(reply, "trained_through")

    def _parts_with(self, reply: str, what: str) -> str:
        """Return the parts of a reply that have something of a plan."""
        from countermove.profiles.plan import Plan

        parts = self.composed("countermove", reply).parts
        return spelling.spell([part.spoken for part in parts if getattr(part.method(Plan()), what)]) or NONE

    def _surrogates(self, setting: Setting, move: str, payer: Payer) -> tuple[Task, ...]:
        """Return what a pivot is made on."""
        from countermove.profiles.pivot import GRAY_SHARE, TARGET

        known = self.composed("move", move).method.knows()
        if known is None:
            return ()
        if known.box == "near-black":
            return (self._extractor_task(setting, known.features, payer),)
        model = setting.model if known.model == TARGET else known.model
        share = GRAY_SHARE if known.box == "gray" else 1.0
        profiler = self._profiler_task(setting, model, share=share, payer=payer)
        return (profiler,)

    def _move_task(self, setting: Setting) -> Task | None:
        if self.composed("move", setting.move).is_none:
            return None
        payload = {**self._common(setting), "move": self._identity("move", setting.move)}
        label = f"pivot {setting.move} | {setting.data} | seed {setting.seed}"
        return Task("move", label, payload, self._surrogates(setting, setting.move, "mover"), payer="mover")

    def _known_tasks(self, setting: Setting, known: Sequence[str], *, share: float) -> tuple[Task, ...]:
        """Return the trainer's own pivoted profiles; none where the trainer meets no pivot and has none."""
        meets = not self.composed("move", setting.move).is_none and not self._poisons(setting.move)
        met = (setting.move,) if meets else ()
        return tuple(
            Task(
                "known",
                f"pivot the trainer's profiles with {move} | {setting.data} | seed {setting.seed}",
                {**self._common(setting), "move": self._identity("move", move), "share": share},
                self._surrogates(setting, move, "trainer"),
            )
            for move in known or met
        )

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
                "profiles": profiles.VERSION,
            },
        }
