"""Parallel jobs, each with its own log, that end together and never outlive the process that started them."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from omnirouter.data.errors import UserError

POLL_S = 0.1
GRACE_S = 5.0  # between asking a job to end and ending it
TAIL_LINES = 20
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_jobs(
    commands: Sequence[Sequence[str]],
    logs: Sequence[Path],
    prefix: Sequence[str] = (),
    on_poll: Callable[[], None] | None = None,
) -> None:
    """Run all commands at once and wait for them.

    Each log begins with its command and ends with the time and the exit code. `prefix` goes before every command, as
    in `srun --cpus-per-task=1`; `on_poll` is called about ten times a second, to show progress. When a job fails, the
    others are ended and a UserError shows the end of the failed job's log.
    """
    jobs: list[_Job] = []
    try:
        for command, log in zip(commands, logs, strict=True):
            jobs.append(_Job([*prefix, *command], Path(log), signal.SIGTERM if prefix else signal.SIGKILL))
        _wait(jobs, on_poll)
    finally:
        _end(jobs)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_exit(code: int) -> str:
    """Say how a process ended; `code` is negative for a signal, as in subprocess."""
    if code >= 0:
        return f"exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"ended by signal {signal.Signals(-code).name}{hint}"


def bind_child_to_parent(signum: int = signal.SIGKILL) -> Callable[[], None] | None:
    """Return a `preexec_fn` by which the kernel sends `signum` to the child when this process ends, even by kill -9.

    None where the kernel is not Linux, which alone offers this.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here, since little is safe between fork and exec
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signum))
        if os.getppid() != parent:  # it ended before the line above
            os.kill(os.getpid(), signum)

    return bind


def bind_to_parent(parent: int | None = None) -> None:
    """Let this process be killed when the one that started it ends (Linux only; elsewhere nothing happens).

    `parent` is that one's process id: if it has ended already, so does this process, at once and on any system.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if parent is not None and os.getppid() != parent:  # it ended before the line above
        os._exit(1)


class _Job:
    """One process in a process group of its own, and its log."""

    def __init__(self, command: list[str], log: Path, death_signal: int) -> None:
        self.log = log
        self.started_s = time.time()
        self.code: int | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "w", encoding="utf-8") as out:
            out.write(f"# {shlex.join(command)}\n# Started at {time.ctime(self.started_s)}\n#\n")
            out.flush()
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=bind_child_to_parent(death_signal),
                )
            except OSError as error:
                raise UserError(f"cannot start `{shlex.join(command)}`: {error}") from error

    def poll(self) -> int | None:
        """Return the exit code, or None while running; the first time it is known, it goes into the log."""
        if self.code is None and (code := self.process.poll()) is not None:
            self.code = code
            self.send(signal.SIGKILL)  # to what it has left behind
            elapsed_s = time.time() - self.started_s
            with open(self.log, "a", encoding="utf-8") as out:
                out.write(f"# Ended ({describe_exit(code)}) at {time.ctime()}, after {elapsed_s:.0f} s\n")
        return self.code

    def send(self, signum: int) -> None:
        """Signal the job's process group, which may outlive its leader."""
        try:
            os.killpg(self.process.pid, signum)
        except (ProcessLookupError, PermissionError):  # nothing left of it (macOS says PermissionError)
            pass


def _wait(jobs: Sequence[_Job], on_poll: Callable[[], None] | None) -> None:
    while True:
        codes = [job.poll() for job in jobs]
        if on_poll is not None:
            on_poll()
        failed = [job for job in jobs if job.code]
        if failed:
            raise UserError(_report(failed[0], len(jobs)))
        if None not in codes:
            return
        time.sleep(POLL_S)


def _report(job: _Job, count: int) -> str:
    lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "".join(f"\n  | {line}" for line in lines[-TAIL_LINES:])
    return f"one of {count} jobs failed ({describe_exit(job.code or 0)}); {job.log} ends:{tail}"


def _end(jobs: Sequence[_Job]) -> None:
    """Ask what still runs to end, then end it."""
    running = [job for job in jobs if job.poll() is None]
    for job in running:
        job.send(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while any(job.poll() is None for job in running) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    for job in running:
        if job.poll() is None:
            job.send(signal.SIGKILL)
            job.process.wait()
            job.poll()
