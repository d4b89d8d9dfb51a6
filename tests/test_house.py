"""The rules that keep the house a house: who may know whom, and what an import may do."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "countermove"
ARENAS = {"unlearnable", "faces", "recommender", "profiles", "retrieval", "tasks"}
ROOMS_OF_AN_ARENA = {"errors", "game", "pixels", "nets", "learning", "finetuning"}
LAZY = {"game", "cli", "report"}
"""Rooms that are imported before anybody knows whether there is something to compute."""
HEAVY = ("torch", "torchvision", "kornia", "matplotlib", "scipy", "sklearn", "pyarrow")

MODULES = sorted(SOURCE.rglob("*.py"))


def dotted(path: Path) -> str:
    """Return a file's module name."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def rooms(folders: set[str]) -> list[Path]:
    return [path for path in MODULES if path.relative_to(SOURCE).parts[0] in folders]


def imported(path: Path, *, at_the_top: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports; at the top: when it is imported itself, so not in functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in _statements(tree) if at_the_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs on import: no bodies of functions, nothing that is there for type checkers only."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if not typing_only and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from _statements(child)


def room_of(module: str) -> str:
    """Return the room of one of our modules, "" for anybody else's."""
    parts = module.split(".")
    return parts[1] if parts[0] == "countermove" and len(parts) > 1 else ""


def test_the_checker_sees_imports() -> None:
    """Otherwise the tests below could not fail."""
    source = "import torch\nif TYPE_CHECKING:\n    import kornia\ndef f():\n    from countermove.faces import arena\n"
    tree = ast.parse(source)
    assert [ast.unparse(node) for node in _statements(tree) if isinstance(node, ast.Import)] == ["import torch"]
    run = SOURCE / "game" / "run.py"
    assert dotted(run) == "countermove.game.run"
    assert "torch" in set(imported(run)) - set(imported(run, at_the_top=True))
    assert "countermove.game.store" in imported(run, at_the_top=True)
    assert room_of("countermove.faces.arena") == "faces"
    assert room_of("torch.nn") == ""


@pytest.mark.parametrize("path", rooms({"game"}), ids=dotted)
def test_the_game_knows_no_arena_and_no_room_above_it(path: Path) -> None:
    known = {room_of(module) for module in imported(path)} - {""}
    assert known <= {"errors", "game"}


@pytest.mark.parametrize("path", rooms(ARENAS), ids=dotted)
def test_an_arena_knows_no_other_arena(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0]
    known = {room_of(module) for module in imported(path)} - {"", own}
    assert known <= ROOMS_OF_AN_ARENA


@pytest.mark.parametrize("path", rooms({"pixels", "nets", "learning", "finetuning"}), ids=dotted)
def test_the_shared_rooms_know_no_arena_and_no_game_being_played(path: Path) -> None:
    known = {room_of(module) for module in imported(path)}
    assert not known & {*ARENAS, "cli", "report"}


@pytest.mark.parametrize("path", rooms(LAZY), ids=dotted)
def test_rooms_that_must_start_fast_import_nothing_heavy(path: Path) -> None:
    assert not {module.split(".")[0] for module in imported(path, at_the_top=True)} & set(HEAVY)


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def heavy_after(module: str) -> list[str]:
    return json.loads(run(f"import sys, json, {module}\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"))


def test_the_game_is_imported_without_torch() -> None:
    modules = ", ".join(dotted(path) for path in rooms({"game"}))
    assert heavy_after(modules) == []


def test_the_command_line_is_imported_without_torch() -> None:
    assert heavy_after("countermove.cli.main") == []


def test_no_import_touches_the_random_state_or_the_settings_of_torch() -> None:
    """Every module is imported one after the other, and what is global is looked at after each."""
    names = [dotted(path) for path in MODULES if path.name != "__main__.py"]
    script = f"""
import hashlib, importlib, json, random
import numpy, torch
import rich.style  # draws from Python's own generator when it is imported

def seen():
    return [
        hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
        hashlib.sha256(repr(numpy.random.get_state()).encode()).hexdigest(),
        str(torch.get_default_dtype()), torch.get_num_threads(), torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    ]

before, guilty = seen(), []
for name in {names}:
    importlib.import_module(name)
    if (now := seen()) != before:
        guilty.append(name)
        before = now
print(json.dumps(guilty))
"""
    assert json.loads(run(script)) == []


# --- Loading never executes -----------------------------------------------------------------------------------------

FORBIDDEN = {
    "pickle.load": "a pickle is a program; PlainUnpickler reads plain data",
    "pickle.loads": "a pickle is a program; PlainUnpickler reads plain data",
    "pickle.Unpickler": "a pickle is a program; PlainUnpickler reads plain data",
    "eval": "a text becomes code",
    "exec": "a text becomes code",
    "os.system": "a text becomes a command",
    "os.popen": "a text becomes a command",
    "yaml.load": "a document may name what is to be made",
    "joblib.load": "it unpickles",
    "torch.hub.load": "it runs what it fetched",
    "shutil.unpack_archive": "members of an archive lead anywhere",
    "extractall": "members of an archive lead anywhere",
    "__import__": "a text becomes code",
}
NEEDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
EXCEPTIONS = {
    (
        "countermove.game.engines.alone",
        "pickle.loads",
    ): "tasks come through the pipe of the process that began this",
}
"""Calls that are allowed after all, by module and name, with the reason."""


def unsafe_calls(source: str) -> list[tuple[int, str]]:
    """Return the calls in a source that could run what a stranger wrote: lines and names."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: word.value for word in node.keywords}
        shell = given.get("shell")
        if name in FORBIDDEN or any(name.endswith(f".{short}") for short in ("extractall", "hub.load")):
            found.append((node.lineno, name))
        elif shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            found.append((node.lineno, f"{name}(shell=...)"))
        elif name in NEEDED:
            word, wanted = NEEDED[name]
            value = given.get(word)
            if not (isinstance(value, ast.Constant) and value.value is wanted):
                found.append((node.lineno, f"{name} without {word}={wanted}"))
    return found


def smuggled(source: str) -> list[str]:
    """Return the forbidden names that a source imports under a name of its own, past the eye of `unsafe_calls`."""
    wholes = {*FORBIDDEN, *NEEDED, "numpy.load"}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in wholes]
        elif isinstance(node, ast.Import):
            renamed = [a for a in node.names if a.asname and a.name in {"pickle", "torch", "yaml", "joblib", "os"}]
            found += [f"{a.name} as {a.asname}" for a in renamed]
            found += [f"{a.name} as {a.asname}" for a in node.names if a.name == "numpy" and a.asname != "np"]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "pickle.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=trusted)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f)",
        "eval(t)",
        "exec(t)",
        "subprocess.run(c, shell=True)",
        "archive.extractall(p)",
        "torch.hub.load(r, m)",
    ],
)
def test_the_checker_sees_calls_that_execute(source: str) -> None:
    """Otherwise the test below could not fail."""
    assert unsafe_calls(source)


@pytest.mark.parametrize("source", ["from pickle import load", "import torch as t", "from numpy import load"])
def test_the_checker_sees_other_names(source: str) -> None:
    assert smuggled(source)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_loading_never_executes(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    calls = [(line, name) for line, name in unsafe_calls(source) if (dotted(path), name) not in EXCEPTIONS]
    assert not calls, f"{calls}: {[FORBIDDEN.get(name) for _, name in calls]}"
    assert not smuggled(source)


@pytest.mark.parametrize(("module", "name"), EXCEPTIONS)
def test_every_exception_is_still_needed(module: str, name: str) -> None:
    path = SOURCE.parent / (module.replace(".", "/") + ".py")
    assert name in {called for _, called in unsafe_calls(path.read_text(encoding="utf-8"))}


def test_the_safe_calls_of_the_checker_are_there() -> None:
    """A checker that looked for calls nobody makes would prove nothing."""
    calls = [
        ast.unparse(node.func)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    assert {"torch.load", "np.load"} <= set(calls)
