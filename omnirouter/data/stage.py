"""One step of a recipe: passed over while its command, inputs and outputs are as recorded, else run and recorded."""

import fcntl
import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write
from omnirouter.data.fingerprint import states
from omnirouter.data.jobs import bind_child_to_parent, describe_exit

INTERRUPTED = 130  # the exit code of a command that Ctrl-C has ended
WRONG_USAGE = 2  # the exit code of a command that has refused its arguments and done nothing


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage runs, reads and writes; all paths as the command sees them."""

    name: str
    """Number and words, as in `2 fbank train`."""
    command: tuple[str, ...]
    inputs: Mapping[str, str | None] = field(default_factory=dict)
    """Path -> number of the stage that makes it; None when the user gives it. A directory counts with its files,
    but for audio in its depth (`fingerprint.states`)."""
    optional_inputs: tuple[str, ...] = ()
    """Inputs that may be absent; coming or going, they count as changed."""
    audio_of: tuple[str, ...] = ()
    """Tables such as wav.scp whose audio files are inputs; they count with size and time, pipes do not."""
    outputs: tuple[str, ...] = ()
    optional_outputs: tuple[str, ...] = ()
    output_audio_of: tuple[str, ...] = ()
    """Tables whose audio files have to stay as they were when the command ended, whoever has made them."""
    record: Path | None = None
    """Where the fingerprint is kept; without one, the stage always runs. Of the stages with records in one directory
    only one runs at a time: those of two runs of a recipe would write the same files."""
    prefix: tuple[str, ...] = ()
    """Goes before the command, as in `srun --gres=gpu:1`; no part of the fingerprint."""
    neutral: tuple[str, ...] = ()
    """Arguments that go after the command but do not change its result; no part of the fingerprint."""


def run_stage(stage: Stage, force: bool = False) -> int:
    """Run the stage unless it is up to date; return 0 or its command's exit code.

    A UserError names each missing input and the stage that makes it, or an output that the command has not made.
    """
    _check_inputs(stage)
    if stage.record is None:
        return _run(stage, force)
    with _alone(stage.name, stage.record.parent):
        return _run(stage, force)


def _run(stage: Stage, force: bool) -> int:
    before = _fingerprint(stage)
    reason = _why_run(stage, before, force)
    if reason is None:
        say(f"stage {stage.name}: up to date")
        return 0
    record = _take_record(stage.record)
    argv = [*stage.prefix, *stage.command, *stage.neutral]
    say(f"stage {stage.name}{reason}: {shlex.join(argv)}")
    started_s = time.monotonic()
    code = _execute(argv)
    if code == WRONG_USAGE and stage.record is not None and record:
        with atomic_write(stage.record) as file:
            file.write(record)
    if code != 0:
        return code
    missing = [path for path in stage.outputs if not os.path.exists(path)]
    if missing:
        raise UserError(f"stage {stage.name} has ended without error, but has not made {', '.join(missing)}")
    if stage.record is not None:
        _write_record(stage.record, before, _output_states(stage))
    say(f"stage {stage.name}: done in {time.monotonic() - started_s:.0f} s")
    return 0


def say(message: str) -> None:
    """Print a line with the time before it, as the recipes' `log` does."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", flush=True)


@contextmanager
def _alone(name: str, folder: Path) -> Iterator[None]:
    """Hold the directory's lock, which holds this stage's name too, waiting for the stage of another run that has it.

    The lock ends with this process, however that ends: the command that it starts does not inherit it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+", encoding="utf-8") as file:
        try:
            _lock(file, name)
        except OSError as error:
            say(f"stage {name}: this file system knows no locks ({error}); let only one run work here at a time")
        file.truncate(0)
        file.write(name)
        file.flush()
        yield


def _lock(file: TextIO, name: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        say(f"stage {name}: another run is at stage {file.read()}; waiting")
        fcntl.flock(file, fcntl.LOCK_EX)


def _check_inputs(stage: Stage) -> None:
    missing = [(path, maker) for path, maker in stage.inputs.items() if not os.path.exists(path)]
    if missing:
        parts = [path if maker is None else f"{path} (stage {maker} makes it)" for path, maker in missing]
        makers = sorted({maker for _, maker in missing if maker is not None})
        hint = f"; run with --stage {makers[0]}" if makers else ""
        raise UserError(f"stage {stage.name} lacks {', '.join(parts)}{hint}")


def _fingerprint(stage: Stage) -> dict[str, Any]:
    inputs = states([*stage.inputs, *stage.optional_inputs], stage.audio_of)
    return {"command": list(stage.command), "inputs": inputs}


def _output_states(stage: Stage) -> dict[str, Any]:
    return states([*stage.outputs, *stage.optional_outputs], stage.output_audio_of)


def _why_run(stage: Stage, now: dict[str, Any], force: bool) -> str | None:
    """Return why the stage has to run (empty: it is new), or None when it is up to date."""
    if stage.record is None or force:
        return ""
    try:
        recorded = json.loads(stage.record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return ""
    if recorded["command"] != now["command"]:
        return ", since its command has changed"
    for kind, current in (
        ("inputs", now["inputs"]),
        ("outputs", _output_states(stage)),
    ):
        changed = sorted(path for path in {*recorded[kind], *current} if recorded[kind].get(path) != current.get(path))
        if changed:
            return f", since {changed[0]} has changed"
    return None


def _take_record(path: Path | None) -> str:
    """Remove the record, since the command is about to change what it vouches for; return what it held."""
    try:
        record = path.read_text(encoding="utf-8") if path else ""
    except (FileNotFoundError, ValueError):
        record = ""
    if path:
        path.unlink(missing_ok=True)
    return record


def _write_record(path: Path, fingerprint: dict[str, Any], outputs: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump({**fingerprint, "outputs": outputs}, file, indent=1)


def _execute(argv: list[str]) -> int:
    """Run the command to its end, in this terminal; return its exit code as a shell would."""
    try:
        process = subprocess.Popen(argv, preexec_fn=bind_child_to_parent())
    except OSError as error:
        raise UserError(f"cannot start `{shlex.join(argv)}`: {error}") from error
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the terminal sends it to the command too: let that end in its own way
        process.wait()
        return INTERRUPTED
    if code < 0:
        say(f"{argv[0]}: {describe_exit(code)}")
        return 128 - code
    return code
