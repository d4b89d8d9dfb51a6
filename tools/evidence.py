"""Play what must be seen and write docs/results: one folder a study, with what was asked beside what was measured.

Run it alone: two trainings side by side are several times slower each. Runs are kept under runs/evidence, so an
interrupted call goes on.
"""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from countermove.game.cheapest import PRICES, cheapest_breaking
from countermove.game.results import Results, Row
from countermove.game.store import RunFolder
from countermove.report.names import Names
from countermove.report.source import Report, read_report

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
SAMPLE_WISE = "error-minimizing(augment_sweep=false, rounds=10, steps=10, surrogate=small-pooled)"
CLASS_WISE = "error-minimizing(form=class)"

TUNED = "full(lr=0.002)"
STARTS = ("", ", sparsity=0.4", ", init=random", ", init=ones")


@dataclass(frozen=True)
class Claim:
    """A mean over seeds that must be at least or at most a bound.

    metric: which number, or "payoff"; model: of which model, empty: of all.
    over:   a move whose own number is taken off first.
    beyond: another metric of the same cell that is taken off first.
    against: a countermove whose own number is taken off first.
    data:   on which data, empty: on all.
    """

    move: str
    countermove: str = "none"
    at_least: float | None = None
    at_most: float | None = None
    metric: str = "accuracy"
    model: str = ""
    over: str = ""
    beyond: str = ""
    against: str = ""
    data: str = ""

    def holds(self, value: float) -> bool:
        """Whether the measured mean is on the right side."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    @property
    def bound(self) -> str:
        """Return the bound for people."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"

    @property
    def what(self) -> str:
        """Return the number for people."""
        other = self.over or self.against
        words = self.metric + (f" beyond {other}'s" if other else "") + f" - {self.beyond}" * bool(self.beyond)
        return words + f" on {self.data}" * bool(self.data)


RANKERS = ("alexrank", "vbpr", "dvbpr")
AMRS = ("amr", "amr(adversary=parameters)")
STUDIES = (
    "first-slice",
    "iss-table-3.2",
    "iss-fig-3.3",
    "iss-fig-3.4",
    "em-faces",
    "full-size",
    "full-size-network-free",
    "aip-posters",
    *(f"aip-table-2.{number}" for number in (3, 4, 5, 7, 8)),
    "fr-baseline",
    "fr-adaptive",
    "fr-oblivious",
    "fr-purifiers",
    "pp-profilers",
    "pp-pictures",
    "pp-captions",
    "pp-trainers",
    "pp-speech",
    "ir-grocery",
    "ir-keypoints",
    "ir-landmarks",
    "ir-owners",
    "ft-tasks",
    "ft-glue",
    "ft-classes",
    "ft-masks",
    "ft-price-pictures",
    "ft-price-faces",
)
SEEN = """features='small(network="small-cnn(width=0.5)")'"""
NEAR = """box=near-black, features="small(build=1, network='small-pooled(width=0.5)')\""""
FUSING = (f"deep-sets({SEEN})", f"set-transformer({SEEN})")
WEIGHING = f"att-mil({SEEN})"
VOTING = f"majority-vote({SEEN})"
HEARING = ("deep-sets(features=log-mel)", "set-transformer(features=log-mel)", "att-mil(features=log-mel)")
HIDDEN = 'noise(like="pire-final(backbones=[plain])")'
SIFT, WHOLE = "local(words=500)", ("global", "global(descriptor=gist, side=64)")
WORDS, SHORT = "critical-layers(layers=[bert.embeddings.word_embeddings])", "sst-2(rows=8000)"
REWOUND = "critical-layers(by=rewinding, share=0.6)"
POISONED = ("linear-separable", CLASS_WISE)
CLOAKS = ("pgd(extractors=[plain])", "fawkes", "lowkey(extractors=[plain], step=0.005, steps=25)")
KNOWN, UNKNOWN = CLOAKS[0], CLOAKS[2]
TOOLS = '["pgd(extractors=[plain])"]'
FACES_ADAPTED = ("", "adaptation=mask, ", "adaptation=lora, ", "adaptation=bitfit, ")
SHOWN = {
    "unlearnable": ("accuracy",),
    "recommender": ("hr_before", "hr_after", "prediction_shift", "p_value", "availability", "clean_hr"),
    "faces": ("protection", "clean_error", "others_accuracy"),
    "profiles": ("accuracy", "clean_accuracy", "attention_on_additions", "strong_accuracy", "auc"),
    "tasks": ("accuracy", "matthews", "sparsity"),
    "retrieval": ("map_before", "map_after", "precision_1_after", "ssim", "ssim_gray"),
}
SHOWN_BESIDES = {
    "iss-fig-3.3": ("noise_high_frequency", "noise_colour"),
    "iss-fig-3.4": ("accuracy_first_test", "accuracy_second_test"),
    "fr-adaptive": ("detector_auc", "detector_recall", "detector_false_alarms"),
    "em-faces": ("moved_class_accuracy", "verification_auc"),
    "pp-trainers": ("detection_auc", "onset_error", "flagged"),
}
PRICED = ("ft-price-pictures", "ft-price-faces")
"""Studies of prices: their tables show what a reply takes, and the cheapest that still breaks a move is named."""
CLAIMS = {
    "first-slice": (
        Claim("none", "none", at_least=0.66),
        Claim("linear-separable", "none", at_most=0.28),
        Claim("linear-separable", "gray", at_least=0.62),
        Claim("linear-separable", "jpeg", at_least=0.54),
        Claim(CLASS_WISE, "none", at_most=0.32),
        Claim(CLASS_WISE, "gray", at_least=0.57),
        Claim(SAMPLE_WISE, "none", at_most=0.32),
        Claim(SAMPLE_WISE, "gray", at_least=0.57),
        Claim(SAMPLE_WISE, "jpeg", at_least=0.45),
    ),
    "aip-posters": (
        *(Claim("none", metric="clean_auc", model=m, at_least=0.52) for m in (*RANKERS, *AMRS)),
        *(Claim("insa", metric="p_value", model=m, at_most=0.01) for m in RANKERS),
        *(Claim("insa", metric="hr_change", model=m, at_least=0.001) for m in RANKERS),
        *(Claim("insa", metric="hr_change", model=m, over="expa", at_least=0.001) for m in RANKERS),
        *(Claim("insa", metric="hr_change", model=m, at_least=0.001) for m in AMRS),
    ),
    "fr-adaptive": (
        *(Claim(cloak, metric="protection", at_least=0.8) for cloak in CLOAKS),
        *(Claim(cloak, metric="others_accuracy", over="none", at_least=-0.02) for cloak in CLOAKS),
        *(Claim(cloak, "adaptive", metric="payoff", at_most=0.1) for cloak in CLOAKS),
        *(Claim(cloak, "adaptive", metric="protection", beyond="clean_error", at_most=0.1) for cloak in CLOAKS),
        *(Claim(cloak, "detector", metric="detector_auc", at_least=0.98) for cloak in CLOAKS),
    ),
    "pp-pictures": (
        *(
            Claim(pivot, model=model, at_most=0.05)
            for pivot in ("adv-n(steps=20)", "adv-pi(steps=20)", "adv-n(eps=64/255, step=8/255, steps=40)")
            for model in (*FUSING, WEIGHING)
        ),
        *(Claim("nat-i", model=model, over="random-items", at_most=-0.1) for model in (*FUSING, WEIGHING)),
        *(Claim(f"nat-i({NEAR})", model=m, over="random-items", at_most=-0.03) for m in (*FUSING, WEIGHING)),
        *(Claim("nat-i(box=gray)", model=model, over="nat-i", at_least=0.0) for model in FUSING),
        *(Claim(f"nat-i({NEAR})", model=model, over="nat-i(box=gray)", at_least=0.0) for model in FUSING),
        *(Claim("adv-n(box=gray, steps=20)", model=m, over="adv-n(steps=20)", at_least=0.0) for m in FUSING),
        *(Claim(f"adv-n({NEAR}, steps=20)", model=m, over="adv-n(box=gray, steps=20)", at_least=0.0) for m in FUSING),
        *(Claim("nat-i", "back-off", model=model, metric="payoff", at_most=0.05) for model in (*FUSING, WEIGHING)),
    ),
    "pp-profilers": (
        *(Claim("none", model=model, at_least=0.6) for model in (*FUSING, WEIGHING)),
        *(Claim("nat-i", model=model, over="random-items", at_most=-0.1) for model in (*FUSING, WEIGHING, VOTING)),
    ),
    "pp-speech": (
        *(
            Claim(pivot, model=model, at_most=0.05)
            for pivot in ("adv-n(snr=0.0, steps=20)", "adv-pi(steps=20)")
            for model in HEARING
        ),
        *(Claim("nat-i", model=model, over="random-items", at_most=-0.1) for model in HEARING),
        *(Claim("nat-i", "back-off", model=model, metric="payoff", at_most=0.05) for model in HEARING),
    ),
    "ir-grocery": (
        Claim("none", metric="map_before", beyond="map_chance", model="neural", at_least=0.15),
        Claim("none", metric="map_before", beyond="map_chance", model="neural(backbone=other)", at_least=0.15),
        Claim("pire-final(backbones=[plain])", metric="map_after", beyond="map_chance", model="neural", at_most=0.05),
        Claim("pire-final(backbones=[plain])", metric="ssim", model="neural", at_least=0.8),
        Claim(HIDDEN, metric="map_after", beyond="map_chance", model="neural", at_least=0.15),
    ),
    "ir-keypoints": (
        *(Claim(move, metric="map_after", over="none", model=SIFT, at_most=-0.02) for move in ("rmd-ls", "ls-fmd")),
        *(Claim(move, metric="map_after", over="none", model=SIFT, at_least=-0.05) for move in ("rdg", "rmd", "fmd")),
        *(Claim("ls-fmd", metric="map_after", over="none", model=model, at_least=-0.03) for model in WHOLE),
    ),
    "ft-tasks": (
        Claim("none", "full", data="ag-news", at_least=0.6),
        Claim("none", "full", data=SHORT, at_least=0.65),
        Claim("none", WORDS, data="ag-news", against="full", at_least=-0.01),
        Claim("none", WORDS, data="ag-news", metric="share changed", at_most=0.6),
        Claim("none", REWOUND, data="ag-news", against="full", at_least=-0.01),
        Claim("none", REWOUND, data="ag-news", metric="share changed", at_most=0.6),
        Claim("none", "mask(embeddings=true)", data="ag-news", against="full", at_least=-0.02),
        Claim("none", "mask(embeddings=true)", data="ag-news", metric="share stored", at_most=0.04),
    ),
    "ft-classes": (
        Claim("none", TUNED, at_least=0.5),
        Claim("none", "critical-layers(by=rewinding, lr=0.002, share=0.6)", against=TUNED, at_least=-0.01),
        Claim("none", "critical-layers(by=rewinding, lr=0.002, share=0.6)", metric="share changed", at_most=0.6),
        Claim("none", "mask", against=TUNED, at_least=-0.02),
        Claim("none", "mask", metric="share stored", at_most=0.04),
    ),
    "ft-masks": (
        Claim("none", "full", at_least=0.65),
        *(Claim("none", f"mask(embeddings=true{start})", against="full", at_least=-0.02) for start in STARTS),
    ),
    "ft-price-pictures": (
        Claim("linear-separable", metric="payoff", at_least=0.5),
        Claim(CLASS_WISE, metric="payoff", at_least=0.5),
        *(Claim(move, "fine-tuning(clean=2000)", metric="payoff", at_most=0.2) for move in POISONED),
        *(Claim(move, "fine-tuning(adaptation=mask, clean=2000)", metric="payoff", at_most=0.3) for move in POISONED),
    ),
    "ft-price-faces": (
        *(Claim(cloak, metric="payoff", at_least=0.5) for cloak in (KNOWN, UNKNOWN)),
        *(Claim(KNOWN, f"adaptive({how}known={TOOLS})", metric="payoff", at_most=0.2) for how in FACES_ADAPTED),
    ),
    "pp-trainers": (
        *(Claim("nat-i", "detector", model=model, metric="detection_auc", at_least=0.9) for model in FUSING),
    ),
}


def main() -> int:
    """Play the studies, or those that are named; return 1 when a claim does not hold."""
    missed = sum(publish(study, CLAIMS.get(study, ())) for study in sys.argv[1:] or STUDIES)
    return 1 if missed else 0


def publish(study: str, claims: Sequence[Claim]) -> int:
    """Play a study, write its results, return how many claims do not hold."""
    run = ROOT / "runs" / "evidence" / study
    command = [sys.executable, "-m", "countermove", "audit", study, "--out", str(run)]
    env = {**os.environ, "COUNTERMOVE_DATA": os.environ.get("COUNTERMOVE_DATA", str(ROOT.parent / "shared" / "data"))}
    subprocess.run(command, check=True, env=env)
    report = read_report(RunFolder.existing(run))
    folder = RESULTS / study
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("results.csv", "audit.toml"):
        shutil.copyfile(run / name, folder / name)
    rows = [(claim, _values(report.results, claim)) for claim in claims]
    missed = sum(not claim.holds(fmean(values)) for claim, values in rows)
    (folder / "README.md").write_text(_page(study, report, rows), encoding="utf-8")
    return missed


def _values(results: Results, claim: Claim) -> list[float]:
    def found(move: str, countermove: str) -> list[float]:
        rows = _rows(results, claim.data, claim.model, move, countermove)
        return [_number(row, claim.metric) - row.metrics.get(claim.beyond, 0.0) for row in rows]

    mine = found(claim.move, claim.countermove)
    if not claim.over and not claim.against:
        return mine
    theirs = found(claim.over or claim.move, claim.against or claim.countermove)
    return [one - other for one, other in zip(mine, theirs, strict=True)]


def _number(row: Row, name: str) -> float:
    """Return a metric, the payoff, or what share of a full copy is changed or stored."""
    if name == "share stored":
        return row.record["price"]["bytes_stored"] / row.metrics["bytes_full"]
    if name == "share changed":
        return row.record["price"]["parameters_changed"] / row.metrics["parameters"]
    if name != "payoff":
        return row.metrics[name]
    assert row.payoff is not None, "a finished cell whose reference proves something has a payoff"
    return row.payoff


def _rows(results: Results, data: str, model: str, move: str, countermove: str) -> list[Row]:
    """Return the finished cells of all seeds at a place of the grid; empty data or model: at all of them."""
    wanted = {"data": data, "model": model, "move": move, "countermove": countermove}
    wanted = {name: value for name, value in wanted.items() if value}
    return [row for row in results.rows if row.ok and wanted.items() <= vars(row.setting).items()]


def _page(study: str, report: Report, rows: Sequence[tuple[Claim, list[float]]]) -> str:
    results, names = report.results, Names.of(report.results)
    facts = next(row.record["environment"] for row in results.rows if row.ok)
    seeds = ", ".join(map(str, results.config.seeds))
    lines = [f"# {study}", "", f"`countermove audit {study}`, seeds {seeds}, {_machine()}.", ""]
    lines += [
        ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None) + ".",
        "",
        names.words(report.verdict.sentence),
        "",
        *(f"- {flag.code}: {names.words(flag.text)}" for flag in report.verdict.flags if flag.fatal),
        *([] if report.verdict.conclusive else [""]),
    ]
    if study in PRICED:
        lines += [names.words(line) for line in _cheapest(report)]
    if rows:
        lines += [
            "| move | countermove | model | number | asked | measured (mean) | each seed | holds |",
            "|---" * 8 + "|",
        ]
        for claim, values in rows:
            each = ", ".join(f"{value:.3g}" for value in values)
            verdict = "yes" if claim.holds(fmean(values)) else "**no**"
            place = [claim.move, claim.countermove, claim.model or "all", claim.what, claim.bound]
            place = [names.words(text) for text in place]
            lines.append(f"| {' | '.join(place)} | {fmean(values):.3g} | {each} | {verdict} |")
        lines.append("")
    shown = (*SHOWN[results.config.arena], *SHOWN_BESIDES.get(study, ()))
    prices = [name for name in PRICES if name != "seconds"] if study in PRICED else []
    head = ["data", "model", "move", "countermove", *shown, "payoff", *(name.replace("_", " ") for name in prices)]
    head += ["seconds a cell", "seconds for the move"]
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    axes = [results.axis(name) for name in ("data", "model", "move", "countermove")]
    for place in itertools.product(*axes):
        lines += [names.words(line) for line in _line(place, shown, prices, _rows(results, *place))]
    if names.by_spelling:
        lines += ["", "Names: " + "; ".join(f"{name} is `{text}`" for text, name in names.by_spelling.items()) + "."]
    return "\n".join([*lines, "", "Means over seeds. Mini-scale numbers are not the papers' numbers.", ""])


def _cheapest(report: Report) -> list[str]:
    """Return the cheapest reply that breaks each move, by each price."""
    lines = ["| move | cheapest in | reply that breaks it | beyond no countermove | leaves |", "|---" * 5 + "|"]
    cheapest = cheapest_breaking(report.verdict, report.results.arena.yardstick)
    for found in cheapest:
        reply = " with ".join(filter(None, [found.reply.countermove, found.reply.model]))
        price = found.price.replace("_", " ")
        lines.append(f"| {found.move} | {price} | {reply} | {found.amount:,.0f} | {found.payoff.point:.2f} |")
    broken = {found.move for found in cheapest}
    for move in report.verdict.moves:
        if move.move not in broken:
            lines.append(f"| {move.move} | | none of these: {move.state} | | |")
    return [*lines, ""]


def _line(place: Sequence[str], shown: Sequence[str], prices: Sequence[str], rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    moved = place[2] != "none"
    payoffs = [row.payoff for row in rows if row.payoff is not None]
    cells = [
        *(_mean([row.metrics[name] for row in rows if name in row.metrics]) for name in shown),
        _mean(payoffs) if moved else "",
        *(f"{fmean(row.record['price'][name] for row in rows):,.0f}" for name in prices),
        f"{fmean(row.record['price']['seconds'] for row in rows):.0f}",
        f"{fmean(row.record['move_cost']['seconds'] for row in rows):.1f}" if moved else "",
    ]
    return [f"| {' | '.join([*place, *cells])} |"]


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.3g}" if values else ""


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}"


if __name__ == "__main__":
    sys.exit(main())
