"""The stage runner as a recipe calls it: its command line, its lock, and what a kill leaves behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def call(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "omnirouter.bin.stage", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the package importable in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path


def test_command_line(folder: Path) -> None:
    Path("in").touch()
    args = ["--name", "5 x", "--record", "r", "--from", "1", "in", "--given", "--output", "out", "--prefix", "env a=b"]
    command = ["--", "bash", "-c", 'echo "$a" "$@"; touch out', "_", "--force", "--"]
    first = call(*args, *command, "--nj", "4")
    assert (first.returncode, first.stderr) == (0, "")
    assert "\nb --force --nj 4\n" in first.stdout
    assert call(*args, *command, "--nj", "8").stdout.endswith("stage 5 x: up to date\n")
    assert "--nj 8" in call(*args, "--force", *command, "--nj", "8").stdout


def test_command_line_failures(folder: Path) -> None:
    failed = call("--name", "5 x", "--", "bash", "-c", "echo own words >&2; exit 7")
    assert (failed.returncode, failed.stderr) == (7, "own words\nerror: stage 5 x failed (exit code 7)\n")
    lacking = call("--name", "5 x", "--from", "4", "exp/model.pt", "--", "true")
    assert lacking.returncode == 1
    assert lacking.stderr == "error: stage 5 x lacks exp/model.pt (stage 4 makes it); run with --stage 4\n"
    assert "no command after --" in call("--name", "5 x").stderr


def test_starts_fast(folder: Path) -> None:
    """A recipe calls it a dozen times. No package but the standard library's, which is what takes the time."""
    code = "import sys; before = set(sys.modules); import omnirouter.bin.stage; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    foreign = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert foreign == {"omnirouter"}


def start(name: str, script: str, record: str = "data/.stage/r.json", output: str = "out") -> subprocess.Popen[str]:
    """Start a stage as another run of the recipe would."""
    command = [sys.executable, "-m", "omnirouter.bin.stage", "--name", name, "--record", record, "--output", output]
    return subprocess.Popen([*command, "--", "bash", "-c", script], stdout=subprocess.PIPE, text=True)


SLOW = "mkdir work; while [ ! -e go ]; do sleep 0.05; done; touch out; rmdir work"  # fails beside itself


def test_a_second_run_waits_for_the_first_and_finds_the_work_done(folder: Path) -> None:
    first = start("2 fbank train", SLOW)
    wait_for(Path("work").exists)
    second = start("2 fbank train", SLOW)
    third = start("1 data directories", "test ! -e work", record="data/.stage/other.json")
    elsewhere = start("6 score dev", "true", record="exp/x/.stage/score.json", output="work")
    assert "waiting" not in elsewhere.communicate(timeout=20)[0] and elsewhere.returncode == 0
    for waiting in (second, third):
        assert waiting.stdout is not None
        assert "another run is at stage 2 fbank train; waiting" in waiting.stdout.readline()
        assert waiting.poll() is None
    Path("go").touch()
    outputs = [process.communicate(timeout=20)[0] for process in (first, second, third)]
    assert [process.returncode for process in (first, second, third)] == [0, 0, 0]
    assert outputs[1].endswith("] stage 2 fbank train: up to date\n")


def test_the_lock_ends_with_the_killed_stage_though_its_children_live_on(folder: Path) -> None:
    killed = start("2 fbank train", "setsid sleep 60 & echo $! > pid; wait")
    wait_for(lambda: Path("pid").exists() and Path("pid").read_text())
    killed.kill()
    killed.wait()
    child = int(Path("pid").read_text())
    try:
        os.kill(child, 0)  # it lives
        done = start("2 fbank train", "touch out")
        assert "waiting" not in done.communicate(timeout=20)[0] and done.returncode == 0
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_kill_takes_the_command_along(folder: Path) -> None:
    """`kill -9` of the shell that has started the runner ends the runner and its command."""
    Path("command.sh").write_text("echo $$ > pid; while :; do sleep 0.1; done")
    script = f'"{sys.executable}" -m omnirouter.bin.stage --name "1 x" -- bash command.sh; true'
    shell = subprocess.Popen(["bash", "-c", script], stdout=subprocess.DEVNULL)
    wait_for(lambda: Path("pid").exists() and Path("pid").read_text())
    child = int(Path("pid").read_text())
    os.kill(shell.pid, signal.SIGKILL)
    shell.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.1])
def test_kill_of_the_shell_while_the_runner_starts(folder: Path, delay_s: float) -> None:
    """Nothing lives on, though the runner may not have told the kernel yet to end it together with the shell."""
    script = (
        f'"{sys.executable}" -m omnirouter.bin.stage --parent $$ --name "1 x" -- bash -c "touch ran; sleep 9"; true'
    )
    shell = subprocess.Popen(["bash", "-c", script], stdout=subprocess.DEVNULL)
    wait_for(lambda: processes_in(folder) - {shell.pid})
    time.sleep(delay_s)
    os.kill(shell.pid, signal.SIGKILL)
    shell.wait()
    wait_for(lambda: not processes_in(folder), limit_s=5.0)
    if delay_s == 0:
        assert not Path("ran").exists()


def processes_in(folder: Path) -> set[int]:
    """Processes other than this whose current directory is `folder`."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink() == folder:
                found.add(int(link.parent.name))
        except OSError:
            pass
    return found - {os.getpid()}


def wait_for(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
