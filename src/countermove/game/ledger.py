"""The game over time: what was published when, what trainers knew when, and what is left of a move at each date.

Whoever publishes can never alter what is out; whoever trains may use everything collected and every method known by
then (Radiya-Dixit et al. 2022, arXiv:2106.14851). So a move must stand against all later replies: the score is a
matrix, publication date by training date.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from countermove.errors import ConfigError
from countermove.game.dates import TIMELESS, Dates, check_date
from countermove.game.results import Results, Row
from countermove.game.verdict import Estimate, Reply, judge

EVERYBODY = "*"
"""The user, or the picture, of an entry that stands for all of them."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A user's picture, out since a date, changed by a move."""

    date: str
    user: str
    sample: str
    move: str


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """A reply, known since a date: a countermove and the model it trains."""

    date: str
    reply: Reply


@dataclass
class Ledger:
    """An append-only record of publications and trainers; dates are YYYY, YYYY-MM or YYYY-MM-DD."""

    _published: list[Publication] = field(default_factory=list)
    _trainers: list[Trainer] = field(default_factory=list)

    @property
    def publications(self) -> tuple[Publication, ...]:
        """Return everything that is out, in the order in which it went out."""
        return tuple(self._published)

    @property
    def trainers(self) -> tuple[Trainer, ...]:
        """Return all replies."""
        return tuple(self._trainers)

    def publish(self, date: str, user: str, sample: str, move: str) -> None:
        """Record a publication.

        Raises:
            ConfigError: a date that is none or lies before the last one, or a picture that is already out.
        """
        check_date(date)
        if self._published and date < self._published[-1].date:
            raise ConfigError(f"{date} lies before {self._published[-1].date}: nothing can be published in the past")
        for out in self._published:
            if out.user == user and out.sample == sample:
                raise ConfigError(f"{sample} of {user} is out since {out.date}, and what is out cannot be altered")
        self._published.append(Publication(date=date, user=user, sample=sample, move=move))

    def learn(self, date: str, reply: Reply) -> None:
        """Record since when a reply is known; "" for one that was always there."""
        if date != TIMELESS:
            check_date(date)
        self._trainers.append(Trainer(date=date, reply=reply))

    def collected(self, date: str) -> tuple[Publication, ...]:
        """Return what a trainer of that date can have collected."""
        return tuple(one for one in self._published if one.date <= date)

    def known(self, date: str) -> tuple[Reply, ...]:
        """Return the replies that are known at a date."""
        return tuple(one.reply for one in self._trainers if one.date <= date)

    def dates(self) -> tuple[str, ...]:
        """Return all dates at which something changes, sorted."""
        return tuple(sorted({e.date for e in (*self._published, *self._trainers)} - {TIMELESS}))


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is left, at a training date, of a move that was published at an earlier one or at that date.

    left:  the cross-fitted payoff against the best reply known by then; None where it cannot be told.
    reply: which it is.
    """

    data: str
    move: str
    published: str
    trained: str
    left: Estimate | None
    reply: Reply | None


def ledger_of(results: Results) -> Ledger:
    """Return the ledger of an audit.

    A move is published by everybody at its date, one without a date is not; a reply is known when both its countermove
    and its model are, and one without a date was always there.
    """
    config, ledger = results.config, Ledger()
    dated = Dates(config)
    moves = sorted((dated.of(move), move) for move in config.moves if move != "none")
    for date, move in moves:
        if date:
            ledger.publish(date, EVERYBODY, f"{EVERYBODY} with {move}", move)
    for countermove in dict.fromkeys(("none", *config.countermoves)):
        for model in config.models:
            date = max(dated.of(countermove), dated.of(model))
            ledger.learn(date, Reply(countermove, model))
    return ledger


def moments(results: Results) -> tuple[Moment, ...]:
    """Return the matrix of dates of an audit whose methods are dated; empty for one without dates."""
    if not results.config.dates:
        return ()
    ledger = ledger_of(results)
    return tuple(moment for date in ledger.dates() for moment in _at(results, ledger, date))


def _at(results: Results, ledger: Ledger, date: str) -> Iterator[Moment]:
    """Yield what is left at a training date of everything collected by then."""
    known = set(ledger.known(date))
    collected = {one.move: one.date for one in ledger.collected(date)}
    if not known or not collected:
        return
    then = _limited(results, sorted(known), tuple(collected))
    for verdict in judge(then).moves:
        left = None if verdict.state == "inconclusive" else verdict.value
        yield Moment(
            data=verdict.data,
            move=verdict.move,
            published=collected[verdict.move],
            trained=date,
            left=left,
            reply=None if left is None else verdict.reply,
        )


def _limited(results: Results, known: Sequence[Reply], moves: tuple[str, ...]) -> Results:
    """Return what of an audit could have been played by then."""
    countermoves = {reply.countermove for reply in known} | {"none"}
    models = {reply.model for reply in known}
    config = results.config.model_copy(
        update={
            "moves": moves,
            "countermoves": tuple(c for c in results.config.countermoves if c in countermoves),
            "models": tuple(m for m in results.config.models if m in models),
        }
    )
    played = {Reply("none", model) for model in models} | set(known)
    rows = tuple(
        row
        for row in results.rows
        if row.setting.model in models
        and (
            _controls(results, row)
            or (row.setting.move in {"none", *moves} and Reply(row.setting.countermove, row.setting.model) in played)
        )
    )
    return replace(results, config=config, rows=rows)


def _controls(results: Results, row: Row) -> bool:
    """Whether a row is of a positive control, which has no date."""
    setting = row.setting
    return any(
        setting.move in ("none", control.move) and setting.countermove in ("none", control.countermove)
        for control in results.arena.controls(setting.data)
    )
