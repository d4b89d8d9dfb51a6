"""A toy arena for tests: coins are doctored before they are tossed, and somebody learns to guess them.

It needs no torch and registers itself the way a third party does. Outcomes are made up from hashes of the names and
the seed, so they are the same everywhere, and a cell takes microseconds unless it is told to sleep, fail or die.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from countermove.errors import ConfigError, did_you_mean
from countermove.game.arena import Control, Number, Panel, Rules, Yardstick
from countermove.game.cell import Cost, Crafted, Desk, Outcome, Setting, Task, Units
from countermove.game.methods import Composition, Kind, Methods
from countermove.game.store import write_atomic

if TYPE_CHECKING:
    from countermove.game.store import RunFolder
    from countermove.game.verdict import Results

TARGETS: dict[Kind, dict[str, str]] = {
    "move": {"none": "coin_arena:NoMove", "loaded": "coin_arena:Loaded", "shaved": "coin_arena:Shaved"},
    "countermove": {
        "none": "coin_arena:NoCountermove",
        "shake": "coin_arena:Shake",
        "scale": "coin_arena:Scale",
        "blindfold": "coin_arena:Blindfold",
        "left-out": "coin_arena:LeftOut",
    },
    "model": {"thumb": "coin_arena:Thumb", "machine": "coin_arena:Machine"},
    "data": {"purse": "coin_arena:Purse"},
}
STEPS = 4
"""A coin is worked on in this many steps, with a checkpoint after each."""


@dataclass(frozen=True, kw_only=True)
class NoMove:
    """The coins as they are."""

    version: ClassVar[int] = 1
    hidden_in: ClassVar[str] = ""
    strength: ClassVar[float] = 0.0


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Coins with a heavy side, Bernoulli 1713, Ars Conjectandi.

    bias: share of the guesses that it turns.
    """

    version: ClassVar[int] = 1
    hidden_in: ClassVar[str] = "weight"

    bias: float = 0.9

    @property
    def strength(self) -> float:
        """Return the share of the guesses that are turned."""
        return self.bias


@dataclass(frozen=True, kw_only=True)
class Shaved:
    """Coins with a shaved edge, shaped in a mould that is made once.

    angle: degrees; the move works in proportion, fully at 90.
    """

    version: ClassVar[int] = 1
    hidden_in: ClassVar[str] = "shape"
    needs_mould: ClassVar[bool] = True

    angle: float = 60.0

    @property
    def strength(self) -> float:
        """Return the share of the guesses that are turned."""
        return self.angle / 90


@dataclass(frozen=True, kw_only=True)
class NoCountermove:
    """Bet as if nothing had happened."""

    version: ClassVar[int] = 1
    undoes: ClassVar[Mapping[str, float]] = {}
    clean_loss: ClassVar[float] = 0.0
    work: ClassVar[int] = 0


@dataclass(frozen=True, kw_only=True)
class Shake:
    """Shake the coin before it is tossed.

    times: how often.
    """

    version: ClassVar[int] = 1
    undoes: ClassVar[Mapping[str, float]] = {"weight": 0.2, "shape": 0.7}
    clean_loss: ClassVar[float] = 0.02

    times: int = 3

    @property
    def work(self) -> int:
        """Return the samples that it costs a coin."""
        return self.times


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Weigh every coin and set the odd ones straight.

    grams: precision of the scale.
    """

    version: ClassVar[int] = 1
    work: ClassVar[int] = 1
    clean_loss: ClassVar[float] = 0.03

    grams: float = 2.0

    @property
    def undoes(self) -> Mapping[str, float]:
        """Return which share of a move is undone."""
        return {"weight": max(0.0, 1 - 0.05 * self.grams), "shape": 0.1}


@dataclass(frozen=True, kw_only=True)
class Blindfold:
    """Look at nothing: costs more than it wins."""

    version: ClassVar[int] = 1
    undoes: ClassVar[Mapping[str, float]] = {}
    clean_loss: ClassVar[float] = 0.3
    work: ClassVar[int] = 0


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Bet on untouched coins only: a diagnostic."""

    version: ClassVar[int] = 1
    undoes: ClassVar[Mapping[str, float]] = {"weight": 1.0, "shape": 1.0}
    clean_loss: ClassVar[float] = 0.1
    work: ClassVar[int] = 0


@dataclass(frozen=True, kw_only=True)
class Thumb:
    """A thumb tosses.

    skill: share of clean coins that are guessed right.
    """

    version: ClassVar[int] = 1

    skill: float = 0.9


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine tosses.

    skill: share of clean coins that are guessed right.
    """

    version: ClassVar[int] = 1

    skill: float = 0.88


@dataclass(frozen=True, kw_only=True)
class Purse:
    """A purse of coins.

    size:  how many coins.
    sides: how many sides each has; chance is one in that many.
    part:  the share of coins that are doctored; only those count where it is under 1.
    """

    version: ClassVar[int] = 1

    size: int = 100
    sides: int = 10
    part: float = 1.0

    def ids(self) -> list[str]:
        """Return the coins' names."""
        return [f"coin-{i:04d}" for i in range(self.size)]

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return the hash of the content, which is in memory: there is nothing to remember."""
        return hashlib.sha256("\n".join(self.ids()).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Training:
    """The arena's table of settings. Only `rounds` can change a result, and only it enters the keys.

    rounds: length of the curves.
    sleep:  seconds a task takes.
    fail:   a task whose label holds this text raises ValueError.
    die:    a task whose label holds this text kills its process.
    crash:  a task whose label holds this text reads where no memory is.
    wild:   a cell whose label holds this text returns a metric that is not a number.
    hang:   a task whose label holds this text never ends.
    starve: a task whose label holds this text runs out of memory the first time.
    """

    rounds: int = 3
    sleep: float = 0.0
    fail: str = ""
    die: str = ""
    crash: str = ""
    wild: str = ""
    hang: str = ""
    starve: str = ""


@dataclass(frozen=True)
class _Game:
    """The built methods of one grid point."""

    data: Composition
    move: Composition
    countermove: Composition
    model: Composition


@dataclass
class Coin:
    """The arena."""

    rules: Rules
    name: ClassVar[str] = "coin"
    unit: ClassVar[str] = "coin"
    metric: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    reply_floor: ClassVar[float | None] = None
    yardstick: ClassVar[Yardstick] = Yardstick()
    methods: Methods = field(init=False)
    training: Training = field(init=False)

    def __post_init__(self) -> None:
        known = Training.__dataclass_fields__
        for key in self.rules.training:
            if key not in known:
                raise ConfigError(f"unknown key 'training.{key}': {did_you_mean(key, known)}")
        self.training = Training(**self.rules.training)
        self.methods = Methods("coin", TARGETS)

    def check(self, axes: Mapping[str, Sequence[str]]) -> None:
        """Refuse purses joined by a plus."""
        for text in axes["data"]:
            _ = self.methods.compose("data", text).method

    def controls(self, data: str) -> Sequence[Control]:
        """Loaded coins work, and a scale finds them."""
        return [Control(move="loaded", countermove="scale")]

    def extra_countermoves(self, data: str) -> Sequence[str]:
        """Leave the doctored coins out where not all are doctored."""
        return ["left-out"] if self.methods.compose("data", data).method.part < 1 else []

    def cell(self, setting: Setting) -> Task:
        """Return a cell; it needs the doctored coins unless the move is none."""
        game = self._game(setting)
        payload = {
            "arena": self.name,
            "data": game.data.identity(rehash=self.rules.rehash),
            "move": game.move.identity(),
            "countermove": game.countermove.identity(),
            "model": game.model.identity(),
            "seed": setting.seed,
            "rounds": self.training.rounds,
            "threads": self.rules.threads,
        }
        needs = () if game.move.is_none else (self._move(setting, game),)
        return Task("cell", setting.label, payload, needs, setting)

    def _move(self, setting: Setting, game: _Game) -> Task:
        data = game.data.identity(rehash=self.rules.rehash)
        payload = {"data": data, "move": game.move.identity(), "seed": setting.seed}
        needs: tuple[Task, ...] = ()
        if any(getattr(part.method, "needs_mould", False) for part in game.move.parts):
            mould = {"data": data, "seed": setting.seed}
            needs = (Task("mould", f"mould for {setting.data}, seed {setting.seed}", mould, payer="mover"),)
        label = f"move {setting.move} on {setting.data}, seed {setting.seed}"
        return Task("move", label, payload, needs, payer="mover")

    def _game(self, setting: Setting) -> _Game:
        compose = self.methods.compose
        return _Game(
            compose("data", setting.data),
            compose("move", setting.move),
            compose("countermove", setting.countermove),
            compose("model", setting.model),
        )

    def reference(self, setting: Setting) -> Setting:
        """Return the same with nothing done on either side."""
        return Setting(setting.arena, setting.data, "none", "none", setting.model, setting.seed)

    def samples(self, task: Task) -> int:
        """Return how many tosses a cell will take."""
        assert task.setting is not None
        return self._tosses(self._game(task.setting))

    def _tosses(self, game: _Game) -> int:
        return game.data.method.size * (1 + sum(part.method.work for part in game.countermove.parts))

    def make(self, task: Task, desk: Desk) -> Crafted:
        """Work on the coins step by step, with a checkpoint after each step."""
        self._misbehave(task, desk)
        began = time.perf_counter()
        checkpoint = desk.scratch / "state.json"
        desk.scratch.mkdir(parents=True, exist_ok=True)
        made_of = [(desk.artifact(need) / "coins.bin").read_bytes().hex() for need in task.needs]
        state: dict[str, Any] = {"step": 0, "hash": _hash(task.key, *made_of)}
        if checkpoint.exists():
            state = json.loads(checkpoint.read_text(encoding="utf-8"))
        while state["step"] < STEPS:
            time.sleep(self.training.sleep / STEPS)
            state = {"step": state["step"] + 1, "hash": _hash(state["hash"], state["step"])}
            write_atomic(checkpoint, json.dumps(state))
        content = b"".join(bytes.fromhex(_hash(state["hash"], i)) for i in range(64))
        (desk.folder / "coins.bin").write_bytes(content)
        (desk.folder / "ids.json").write_text(json.dumps({"made": state["step"]}), encoding="utf-8")
        cost = Cost(seconds=time.perf_counter() - began, samples=STEPS * 10)
        return Crafted(cost=cost, facts={"steps": STEPS, "kept_budget": True})

    def play(self, task: Task, desk: Desk) -> Outcome:
        """Toss every coin once."""
        self._misbehave(task, desk)
        time.sleep(self.training.sleep)
        assert task.setting is not None
        setting = task.setting
        game = self._game(setting)
        purse: Purse = game.data.method
        made = task.need("move")
        touched = "" if made is None else hashlib.sha256((desk.artifact(made) / "coins.bin").read_bytes()).hexdigest()
        probability = self._probability(game)
        words = (setting.seed, setting.move, setting.countermove, setting.model, touched)
        outcome = [float(uniform(coin, *words) < probability) for coin in purse.ids()]
        counted = None if purse.part >= 1 else [uniform(coin, "part") < purse.part for coin in purse.ids()]
        accuracy = sum(outcome) / len(outcome)
        if self.training.wild and self.training.wild in task.label:
            accuracy = float("nan")
        return Outcome(
            metrics={"accuracy": accuracy},
            units=Units(ids=purse.ids(), outcome=outcome, counted=counted),
            chance=1 / purse.sides,
            cost=Cost(seconds=self.training.sleep, samples=self._tosses(game), bytes_stored=8),
            curves={"test accuracy": [accuracy * (i + 1) / self.training.rounds for i in range(self.training.rounds)]},
        )

    def _probability(self, game: _Game) -> float:
        """Return how often a coin is guessed right."""
        purse: Purse = game.data.method
        chance, left, loss = 1 / purse.sides, 0.0, 0.0
        for part in game.move.parts:
            undone = [reply.method.undoes.get(part.method.hidden_in, 0.0) for reply in game.countermove.parts]
            left = max(left, part.method.strength * (1 - max(undone)))
        for reply in game.countermove.parts:
            loss = max(loss, reply.method.clean_loss)
        return chance + (game.model.method.skill - loss - chance) * (1 - left)

    def _misbehave(self, task: Task, desk: Desk) -> None:
        if self.training.fail and self.training.fail in task.label:
            raise ValueError(f"told to fail at {task.label}")
        if self.training.die and self.training.die in task.label:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.training.crash and self.training.crash in task.label:
            ctypes.string_at(0)
        if self.training.hang and self.training.hang in task.label:
            time.sleep(10_000)
        if self.training.starve and self.training.starve in task.label and not (desk.scratch / "starved").exists():
            desk.scratch.mkdir(parents=True, exist_ok=True)
            (desk.scratch / "starved").touch()
            raise MemoryError("told to run out of memory")

    def access(self, setting: Setting) -> str:
        return "" if setting.move == "none" else "near-black"

    def not_learned(self, metrics: Mapping[str, float]) -> str:
        """Return nothing: a guess has a chance level."""
        return ""

    def payoff(self, mean: Number, reference: Number, chance: float | None) -> Number:
        """Return the share of what could be guessed that was lost."""
        assert chance is not None
        return (reference - mean) / (reference - chance)

    def panels(self, run: RunFolder, results: Results) -> Sequence[Panel]:
        """Return one picture of coins."""
        ok = sum(row.ok for row in results.rows)
        svg = '<svg viewBox="0 0 40 20" role="img" aria-label="a coin"><circle cx="10" cy="10" r="8"/></svg>'
        return [Panel(title="Coins", html=f"{svg}<p>{ok} cells were played.</p>", summary="A coin.")]


def uniform(*words: str | int) -> float:
    """Return a number in [0, 1) that depends on the words alone."""
    return int(_hash(*words)[:13], 16) / 16**13


def _hash(*words: str | int) -> str:
    return hashlib.sha256("\x1f".join(str(word) for word in words).encode()).hexdigest()
