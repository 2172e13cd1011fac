"""tools/install.sh with a Python that only notes how it is called: what is kept, begun anew, or refused."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = (
    "tools/install.sh",
    "tools/lock.py",
    "tools/constraints.txt",
    "setup.py",
    "egs/TEMPLATE/asr1/utils/parse_options.sh",
)
PYTHON = f"""#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
    */tools/lock.py*) exec {sys.executable!r} "$@" ;;
    "-m venv"*)
        mkdir -p "${{@: -1}}/bin"
        cp "$0" "${{@: -1}}/bin/python"
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

    @property
    def packages(self) -> Path:
        return self.venv / "lib/python3.x/site-packages"

    @property
    def python(self) -> str:
        return str(self.root / "a path with spaces/python3")

    def start(self, *args: str, pip: str = "exit 0") -> subprocess.Popen[str]:
        """Start the installer; `pip` is what pip does, in bash, where $PACKAGES are."""
        command = ["bash", str(self.root / "tools/install.sh"), *args]
        environment = {**os.environ, "CALLS": str(self.root / "calls"), "PIP": pip, "PACKAGES": str(self.packages)}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def install(self, *args: str, pip: str = "exit 0") -> subprocess.CompletedProcess[str]:
        """Run the installer to its end."""
        process = self.start(*args, pip=pip)
        output, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def calls(self) -> str:
        return (self.root / "calls").read_text() if (self.root / "calls").exists() else ""


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    for name in NEEDED:
        (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "clone" / name)
    clone = Clone(tmp_path / "clone")
    python = Path(clone.python)
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    return clone


@pytest.fixture
def good(clone: Clone) -> Clone:
    """A clone with a finished installation, in which `kept` tells whether it is still the same one."""
    make = "mkdir -p $PACKAGES/{torch-2,omnirouter-0}.dist-info"
    assert clone.install("--python", clone.python, pip=make).returncode == 0
    (clone.venv / "kept").touch()
    (clone.root / "calls").unlink()
    return clone


def test_a_python_in_a_path_with_spaces(good: Clone) -> None:
    assert (good.venv / "installed").read_text().splitlines()[1] == "mini tensorboard"
    assert "already installed" in good.install().stdout
    assert good.calls() == ""


def test_it_installs_where_it_lies_whatever_cdpath_is(good: Clone, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(good.root, other)
    command = ["bash", "tools/install.sh"]
    environment = {**os.environ, "CDPATH": str(other)}
    result = subprocess.run(command, cwd=good.root, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout == f"already installed in {good.venv} (extras: mini tensorboard)\n"


def test_an_error_of_pip_costs_nothing_that_was_there(good: Clone) -> None:
    assert good.install("--extras", "lhotse", pip="exit 1").returncode == 1
    assert not good.marker.exists()
    assert good.install("--extras", "lhotse").returncode == 0
    assert (good.venv / "kept").exists()
    assert (good.venv / "installed").read_text().splitlines()[1] == "lhotse mini tensorboard"


def test_a_clone_that_is_reached_by_another_path_keeps_its_environment(good: Clone, tmp_path: Path) -> None:
    (tmp_path / "a link").symlink_to(good.root)
    assert Clone(tmp_path / "a link").install().returncode == 0
    assert (good.venv / "kept").exists()


@pytest.mark.parametrize("how", ["moved", "copied"])
@pytest.mark.parametrize("state", ["finished", "extras cut off"])
def test_a_clone_in_another_place_gets_an_environment_of_its_own(good: Clone, how: str, state: str) -> None:
    """The scripts of an environment, activate among them, hold its place."""
    if state == "extras cut off":
        assert good.install("--python", good.python, "--extras", "lhotse", pip="kill -9 $$").returncode != 0
    other = Clone(good.root.with_name(f"{good.root.name} 12 34"))  # as the check sum's numbers stand after the place
    shutil.move(good.root, other.root) if how == "moved" else shutil.copytree(good.root, other.root)
    refused = other.install("--extras", "lhotse")
    assert refused.returncode == 1 and f"with --python or --index-url: give the same again ({good.python})" in (
        refused.stderr
    )
    assert (other.venv / "kept").exists()
    (other.venv / "installed").write_text((other.venv / "installed").read_text().replace(good.python, other.python))
    result = other.install("--python", other.python, "--extras", "lhotse")
    assert result.returncode == 0 and f"was made for {good.root}: making it anew" in result.stdout
    assert not (other.venv / "kept").exists() and not other.marker.exists()
    assert (other.venv / "installed").read_text().splitlines()[1] == "lhotse mini tensorboard"
    assert "already installed" in other.install().stdout


KILLS = ["kill -9 $$", "kill -9 $PPID; exit 1", "kill -INT $PPID; exit 1"]


@pytest.mark.parametrize("end", KILLS)
def test_extras_cut_off_leave_what_was_there(good: Clone, end: str) -> None:
    half = "mkdir $PACKAGES/{lhotse-1,~mnirouter-0}.dist-info && rmdir $PACKAGES/omnirouter-0.dist-info; " + end
    assert good.install("--extras", "lhotse", pip=half).returncode != 0
    seen = "ls $PACKAGES >$CALLS.packages; mkdir -p $PACKAGES/omnirouter-0.dist-info"
    result = good.install("--extras", "test", pip=seen)
    assert "was cut off: what was there before is kept" in result.stdout and result.returncode == 0
    assert (good.root / "calls.packages").read_text() == "torch-2.dist-info\n"  # lhotse may be half there
    assert (good.venv / "kept").exists() and not good.marker.exists()
    assert (good.venv / "installed").read_text().splitlines()[1] == "mini tensorboard test"


@pytest.mark.parametrize("end", KILLS)
def test_a_first_installation_cut_off_begins_anew(clone: Clone, end: str) -> None:
    assert clone.install("--python", clone.python, pip=f"touch $PACKAGES/../../../half; {end}").returncode != 0
    assert clone.marker.exists()
    result = clone.install("--python", clone.python)
    assert "cut off: starting again" in result.stdout and result.returncode == 0
    assert not (clone.venv / "half").exists() and not clone.marker.exists()


@pytest.mark.parametrize("what", ["another setup.py", "a package being replaced"])
def test_what_may_be_half_replaced_is_made_anew(good: Clone, what: str) -> None:
    if what == "another setup.py":
        with open(good.root / "setup.py", "a") as file:
            file.write("# another\n")
    assert good.install("--extras", "lhotse", pip="mkdir $PACKAGES/~orch-2.dist-info; kill -9 $$").returncode != 0
    result = good.install("--python", good.python)
    assert "cut off: starting again" in result.stdout and result.returncode == 0
    assert not (good.venv / "kept").exists() and not good.marker.exists()


def test_a_second_command_waits_and_finds_it_installed(clone: Clone) -> None:
    slow = "touch $CALLS.begun; while [[ ! -e $CALLS.go ]]; do sleep 0.02; done"
    first = clone.start("--python", clone.python, pip=slow)
    while not (clone.root / "calls.begun").exists():
        assert first.poll() is None
    second = clone.start("--python", clone.python)
    assert second.stdout is not None
    assert second.stdout.readline() == f"another command is installing into {clone.venv}: waiting for it\n"
    assert (clone.venv / "bin/python").exists() and second.poll() is None
    (clone.root / "calls.go").touch()
    assert "starting again" not in first.communicate()[0] and first.returncode == 0
    assert second.communicate() == (f"already installed in {clone.venv} (extras: mini tensorboard)\n", "")
    assert second.returncode == 0 and clone.calls().count("-m venv") == 1


def test_the_lock_outlives_a_killed_script_as_long_as_pip_does(clone: Clone) -> None:
    orphan = "kill -9 $PPID; while [[ ! -e $CALLS.go ]]; do sleep 0.02; done; touch $CALLS.done"
    assert clone.start("--python", clone.python, pip=orphan).wait() != 0
    second = clone.start("--python", clone.python, pip="[[ -e $CALLS.done ]]")
    assert second.stdout is not None and "waiting" in second.stdout.readline()
    (clone.root / "calls.go").touch()
    assert "starting again" in second.communicate()[0] and second.returncode == 0


def test_where_nothing_can_be_locked_it_goes_on() -> None:
    result = subprocess.run([sys.executable, str(ROOT / "tools/lock.py"), "x"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "") and result.stderr.startswith("warning: no lock (")


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
