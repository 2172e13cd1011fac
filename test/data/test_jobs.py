"""Parallel jobs: logs, failures, and that no job outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.data.jobs import run_jobs

PARENT = "from pathlib import Path\nfrom omnirouter.data.jobs import run_jobs\nrun_jobs({commands!r}, {logs!r})"


def shell(script: str) -> list[str]:
    return ["bash", "-c", script]


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], object], limit_s: float = 20.0) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def pids_in(folder: Path, count: int) -> list[int]:
    """Wait until `count` jobs have written their process id to pid.*."""
    assert wait_for(lambda: sum(path.stat().st_size > 1 for path in folder.glob("pid.*")) == count)
    return [int(path.read_text()) for path in folder.glob("pid.*")]


def test_binding_to_a_parent_that_has_ended_ends_the_process() -> None:
    code = "import os, sys\nfrom omnirouter.data.jobs import bind_to_parent\nbind_to_parent({})\nprint('lives')"
    for parent, words in (("os.getppid()", "lives\n"), ("os.getpid()", "")):
        done = subprocess.run([sys.executable, "-c", code.format(parent)], capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode == 0) == (words, bool(words))


def test_jobs_run_at_once_and_each_log_tells_command_output_and_end(tmp_path: Path) -> None:
    meet = "touch {me}; for _ in $(seq 200); do [ -e {other} ] && exit 0; sleep 0.05; done; exit 1"
    commands = [
        shell(f"echo one; cd '{tmp_path}'; " + meet.format(me="a", other="b")),
        shell(f"echo two >&2; cd '{tmp_path}'; " + meet.format(me="b", other="a")),
    ]
    logs = [tmp_path / "log" / f"{i}.log" for i in (1, 2)]
    polls = []
    run_jobs(commands, logs, on_poll=lambda: polls.append(1))
    for log, word in zip(logs, ("one", "two"), strict=True):
        lines = log.read_text().splitlines()
        assert lines[0].startswith("# bash -c 'echo ") and lines[1].startswith("# Started at ")
        assert lines[3] == word
        assert lines[4].startswith("# Ended (exit code 0) at ")
    assert polls


def test_prefix_goes_before_each_command(tmp_path: Path) -> None:
    run_jobs([shell("echo $mark")], [tmp_path / "log"], prefix=["env", "mark=here"])
    assert "\nhere\n" in (tmp_path / "log").read_text()


def test_failure_shows_the_failed_jobs_own_log_and_ends_the_others(tmp_path: Path) -> None:
    commands = [
        shell(f"echo innocent; sleep 60 & echo $! > {tmp_path}/pid.grandchild; wait"),
        shell(f"for i in {{1..99}}; do echo line $i; done; until [ -s {tmp_path}/pid.grandchild ]; do :; done; exit 7"),
    ]
    started_s = time.monotonic()
    with pytest.raises(UserError) as caught:
        run_jobs(commands, [tmp_path / "1.log", tmp_path / "2.log"])
    message = str(caught.value)
    assert f"exit code 7); {tmp_path / '2.log'} ends:" in message
    assert "| line 99\n" in message and "| line 2\n" not in message and "innocent" not in message
    assert time.monotonic() - started_s < 30
    (grandchild,) = pids_in(tmp_path, 1)
    assert wait_for(lambda: not is_running(grandchild))
    assert "signal SIGTERM" in (tmp_path / "1.log").read_text()


def test_a_job_that_ignores_the_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnirouter.data.jobs.GRACE_S", 0.3)
    deaf = shell(f"trap '' TERM; echo $$ > {tmp_path}/pid.deaf; while :; do sleep 0.1; done")
    failing = shell(f"until [ -s {tmp_path}/pid.deaf ]; do :; done; exit 1")
    with pytest.raises(UserError):
        run_jobs([deaf, failing], [tmp_path / "1.log", tmp_path / "2.log"])
    assert not is_running(pids_in(tmp_path, 1)[0])


def test_what_a_finished_job_has_left_behind_is_killed(tmp_path: Path) -> None:
    run_jobs([shell(f"sleep 60 & echo $! > {tmp_path}/pid.left")], [tmp_path / "log"])
    (left,) = pids_in(tmp_path, 1)
    assert wait_for(lambda: not is_running(left))


def test_death_by_signal_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ended by signal SIGKILL \(out of memory\?\)"):
        run_jobs([shell("kill -9 $$")], [tmp_path / "log"])


def test_command_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot start `no-such-program x`"):
        run_jobs([["no-such-program", "x"]], [tmp_path / "log"])


def test_arguments_are_not_interpreted(tmp_path: Path) -> None:
    word = "$(touch made); 'quoted' \"x\" *"
    run_jobs([[sys.executable, "-c", "import sys; print(sys.argv[1])", word]], [tmp_path / "log"])
    assert f"\n{word}\n" in (tmp_path / "log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_jobs_end_with_their_parent(tmp_path: Path, signum: signal.Signals) -> None:
    commands = [shell(f"echo $$ > {tmp_path}/pid.{i}; while :; do sleep 0.1; done") for i in range(2)]
    code = PARENT.format(commands=commands, logs=[str(tmp_path / f"{i}.log") for i in range(2)])
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    jobs = pids_in(tmp_path, 2)
    os.kill(parent.pid, signum)
    parent.wait(timeout=20)
    assert wait_for(lambda: not any(map(is_running, jobs)))
