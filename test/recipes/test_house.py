"""The rules of the house: who imports whom, what lies where, how long things may be."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("data", "corpora", "models", "decoding", "scoring", "training", "analysis", "bin")
TOP_LEVEL = {"README.md", "setup.py", "egs", "omnirouter", "tools", "test", "LICENSE"}
MODULES = sorted((ROOT / "omnirouter").rglob("*.py"))
PAPER_RECIPES = ("mini_librispeech", "librispeech", "libriheavy")  # headed as in the paper
RECIPES = sorted(path.parent for path in ROOT.glob("egs/*/asr1/run.sh"))
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_RUN_LINES, MAX_ASR_LINES = 300, 60, 40, 200


def module_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported_rooms(tree: ast.AST) -> Iterator[str]:
    """The rooms of the package that a module imports from."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("omnirouter."))


def may_import(room: str, other: str) -> bool:
    if other == "__version__" or room == other:
        return True
    if other == "corpora":
        return room == "bin"
    return other != "bin" and ROOMS.index(other) < ROOMS.index(room)


def test_the_rule_for_imports() -> None:
    assert may_import("bin", "corpora") and may_import("training", "scoring") and may_import("data", "data")
    assert (
        not may_import("models", "corpora") and not may_import("data", "models") and not may_import("analysis", "bin")
    )


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_rooms_import_only_rooms_before_them(path: Path) -> None:
    room = path.relative_to(ROOT / "omnirouter").parts[0]
    if room == "__init__.py":
        assert not list(imported_rooms(ast.parse(path.read_text())))
        return
    assert room in ROOMS
    forbidden = {other for other in imported_rooms(ast.parse(path.read_text())) if not may_import(room, other)}
    assert not forbidden


def test_commands_do_not_import_each_other() -> None:
    for path in (ROOT / "omnirouter/bin").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("omnirouter.bin"):
                assert node.module == "omnirouter.bin._main", path


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert not [f.name for f in functions if (f.end_lineno or f.lineno) - f.lineno + 1 > MAX_FUNCTION_LINES]


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_public_functions_are_annotated(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            assert node.returns is not None, node.name
            assert all(argument.annotation is not None for argument in arguments), node.name


def test_top_level_holds_only_what_belongs_there() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True)
    names = {line.split("/")[0] for line in listed.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_there_are_recipes() -> None:
    assert {"mini", "an4", "mini_librispeech", "librispeech", "libriheavy", "own"} <= {
        recipe.parent.name for recipe in RECIPES
    }


@pytest.mark.parametrize("recipe", RECIPES, ids=module_id)
def test_recipes_share_the_template(recipe: Path) -> None:
    run = recipe / "run.sh"
    assert len(run.read_text().splitlines()) <= MAX_RUN_LINES
    assert run.stat().st_mode & 0o111, "run.sh can be executed"
    for name in ("asr.sh", "compare.sh", "path.sh", "cmd.sh", "utils"):
        assert (recipe / name).readlink() == Path("../../TEMPLATE/asr1") / name
        assert (recipe / name).exists()
    for encoder in ("dense", "switch", "omnirouter"):
        assert (recipe / "conf" / f"{encoder}.yaml").exists()
    compare = recipe / "run_compare.sh"
    assert compare.stat().st_mode & 0o111 and len(compare.read_text().splitlines()) <= MAX_RUN_LINES
    headlines = [set(re.findall(r"--headline (raw|whisper)", path.read_text())) for path in (run, compare)]
    of_the_paper = recipe.parent.name in PAPER_RECIPES
    assert headlines == 2 * [{"whisper" if of_the_paper else "raw"}], "its normaliser is for English, and hides errors"


def test_the_shared_scripts_are_short_and_call_commands_that_exist() -> None:
    texts = [path.read_text() for path in sorted((ROOT / "egs/TEMPLATE/asr1").rglob("*.sh"))]
    assert all(len(text.splitlines()) <= MAX_ASR_LINES for text in texts)
    commands = set(re.findall(r"python -m (?:\"\S+\" )?omnirouter\.bin\.(\w+)", "".join(texts)))
    assert len(commands) > 16
    assert not [name for name in commands if not (ROOT / f"omnirouter/bin/{name}.py").exists()]
