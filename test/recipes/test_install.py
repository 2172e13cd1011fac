"""tools/install.sh with a Python that only notes how it is called: what is kept, begun anew, or refused."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("tools/install.sh", "tools/constraints.txt", "setup.py", "egs/TEMPLATE/asr1/utils/parse_options.sh")
PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
    "-m venv"*)
        mkdir -p "${@: -1}/bin"
        cp "$0" "${@: -1}/bin/python"
        ;;
    "-m pip install"*) eval "$PIP" ;;
esac
"""


@dataclass(frozen=True)
class Clone:
    """What the installer needs of a clone, and a Python for it in a folder with spaces."""

    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def marker(self) -> Path:
        return self.root / ".venv.incomplete"

    def install(self, *args: str, pip: str = "exit 0") -> subprocess.CompletedProcess[str]:
        """Run the installer; `pip` is what pip does, in bash."""
        command = ["bash", str(self.root / "tools/install.sh"), *args]
        environment = {**os.environ, "CALLS": str(self.root / "calls"), "PIP": pip}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def calls(self) -> str:
        return (self.root / "calls").read_text() if (self.root / "calls").exists() else ""


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    for name in NEEDED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "a path with spaces/python3"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    return Clone(tmp_path)


@pytest.fixture
def good(clone: Clone) -> Clone:
    """A clone with a finished installation, in which `kept` tells whether it is still the same one."""
    assert clone.install("--python", str(clone.root / "a path with spaces/python3")).returncode == 0
    (clone.venv / "kept").touch()
    (clone.root / "calls").unlink()
    return clone


def test_a_python_in_a_path_with_spaces(good: Clone) -> None:
    assert (good.venv / "installed").read_text().splitlines()[1] == "mini tensorboard"
    assert "already installed" in good.install().stdout
    assert good.calls() == ""


def test_an_error_of_pip_costs_nothing_that_was_there(good: Clone) -> None:
    assert good.install("--extras", "lhotse", pip="exit 1").returncode == 1
    assert not good.marker.exists()
    assert good.install("--extras", "lhotse").returncode == 0
    assert (good.venv / "kept").exists()
    assert (good.venv / "installed").read_text().splitlines()[1] == "lhotse mini tensorboard"


@pytest.mark.parametrize("end", ["kill -9 $$", "kill -9 $PPID; exit 1", "kill -INT $PPID; exit 1"])
def test_what_a_kill_left_is_made_anew(good: Clone, end: str) -> None:
    assert good.install("--extras", "lhotse", pip=end).returncode != 0
    assert good.marker.exists()
    result = good.install("--python", str(good.root / "a path with spaces/python3"))
    assert "cut off: starting again" in result.stdout and result.returncode == 0
    assert not (good.venv / "kept").exists() and not good.marker.exists()


def test_unknown_extras_are_refused(good: Clone) -> None:
    result = good.install("--extras", "test lhots")
    assert (result.returncode, good.calls()) == (1, "")
    assert result.stderr == "error: setup.py has no extra 'lhots'; it has: mini lhotse lm tensorboard bench all test\n"


def test_the_check_gets_the_extras(good: Clone) -> None:
    assert good.install("--extras", "test").returncode == 0
    assert good.calls().splitlines()[-1] == f"{good.root}/tools/check_install.py mini tensorboard test"


def test_the_check_knows_every_extra_and_imports_what_it_is_asked_for() -> None:
    code = (
        "import importlib, runpy, sys; check = runpy.run_path(sys.argv[1]); setup = open(sys.argv[2]).read()\n"
        "extras = {}; exec(setup[setup.index('EXTRAS ='):setup.index('ALL =')], extras)\n"
        "assert {*extras['EXTRAS'], 'test'} == set(check['EXTRAS'])\n"
        "sys.modules['tensorboard'] = None; sys.argv[1:] = ['tensorboard']; check['main']()\n"
    )
    command = [sys.executable, "-c", code, str(ROOT / "tools/check_install.py"), str(ROOT / "setup.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: tensorboard cannot be imported")
