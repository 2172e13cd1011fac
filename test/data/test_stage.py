"""The stage runner: when a step runs, when it is passed over, and what it says when it cannot."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.data.stage import Stage, run_stage

Run = Callable[..., int]


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a stage that copies `in` to `out` and notes each run in `runs`; keywords replace fields of the stage."""
    monkeypatch.chdir(tmp_path)
    Path("in").write_text("first")
    Path("a b.wav").write_text("audio")
    Path("made.wav").write_text("audio")
    Path("wav.scp").write_text("utt1 lost.wav\nutt2 a b.wav\nutt3 touch ran |\n")
    Path("made.scp").write_text("utt1\tmade.wav\n")

    def run(force: bool = False, **changes: object) -> int:
        fields: dict = {
            "name": "2 copy",
            "command": ("bash", "-c", "cp in out; echo >> runs", "copy"),
            "inputs": {"in": "1"},
            "optional_inputs": ("maybe",),
            "audio_of": ("wav.scp",),
            "outputs": ("out",),
            "output_audio_of": ("made.scp", "absent.scp"),
            "record": Path("records/copy.json"),
        }
        return run_stage(Stage(**{**fields, **changes}), force)

    return run


def runs() -> int:
    return Path("runs").read_text().count("\n") if Path("runs").exists() else 0


def test_an_unchanged_stage_is_passed_over(step: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert step() == 0
    capsys.readouterr()
    assert step() == 0
    assert runs() == 1
    assert capsys.readouterr().out.endswith("] stage 2 copy: up to date\n")


def change_size() -> None:
    status = os.stat("in")
    Path("in").write_text("longer than before")
    os.utime("in", ns=(status.st_atime_ns, status.st_mtime_ns))


def change_time() -> None:
    status = os.stat("in")
    os.utime("in", ns=(status.st_atime_ns, status.st_mtime_ns + 1))


CHANGES: dict[str, tuple[Callable[[], object], dict, str]] = {
    "size of an input": (change_size, {}, ", since in has changed"),
    "time of an input": (change_time, {}, ", since in has changed"),
    "a new optional input": (lambda: Path("maybe").touch(), {}, ", since maybe has changed"),
    "the output is gone": (lambda: os.remove("out"), {}, ", since out has changed"),
    "the output is another": (lambda: Path("out").write_text("x"), {}, ", since out has changed"),
    "another argument": (lambda: None, {"command": ("bash", "-c", "cp in out; echo >> runs", "x")}, ", since its comm"),
    "another input": (lambda: Path("b").touch(), {"inputs": {"in": "1", "b": "1"}}, ", since b has changed"),
    "one input less": (lambda: None, {"inputs": {}}, ", since in has changed"),
    "time of its audio": (lambda: os.utime("a b.wav", ns=(1, 1)), {}, ", since audio of wav.scp has changed"),
    "its audio is gone": (lambda: os.remove("a b.wav"), {}, ", since audio of wav.scp has changed"),
    "time of audio it made": (lambda: os.utime("made.wav", ns=(1, 1)), {}, ", since audio of made.scp has changed"),
    "force": (lambda: None, {"force": True}, ""),
    "the record is gone": (lambda: os.remove("records/copy.json"), {}, ""),
    "the record is broken": (lambda: Path("records/copy.json").write_text('{"comm'), {}, ""),
    "no record": (lambda: None, {"record": None}, ""),
}


@pytest.mark.parametrize("change, keywords, reason", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_makes_it_run_again(
    step: Run, change: Callable[[], object], keywords: dict, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    step()
    change()
    capsys.readouterr()
    assert step(**keywords) == 0
    assert runs() == 2
    assert f"] stage 2 copy{reason}" in capsys.readouterr().out


def test_a_change_of_what_does_not_count_is_passed_over(step: Run) -> None:
    step(neutral=("--nj", "4"))
    step(neutral=("--nj", "8"), prefix=("env", "x=1"))
    assert runs() == 1


def test_prefix_command_and_neutral_arguments_form_one_line(step: Run, capfd: pytest.CaptureFixture[str]) -> None:
    command = ("bash", "-c", 'echo "$mark" "$@"; touch out', "_", "$(a) b")
    step(command=command, prefix=("env", "mark=here"), neutral=("--nj", "4"))
    assert "\nhere $(a) b --nj 4\n" in capfd.readouterr().out


def test_a_directory_counts_with_what_lies_in_it(step: Run) -> None:
    for path in ("dir/.hidden", "dir/seen", "out/x"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    fields = {"inputs": {"dir": None}, "command": ("bash", "-c", "echo >> runs")}
    step(**fields)
    Path("dir/.hidden").write_text("changed")
    step(**fields)
    assert runs() == 1
    Path("dir/seen").write_text("changed")
    step(**fields)
    assert runs() == 2
    os.remove("out/x")
    step(**fields)
    assert runs() == 3


def test_missing_inputs_are_named_with_the_stages_that_make_them(step: Run) -> None:
    Path("out").touch()
    inputs = {"in": "1", "data/feats.scp": "2", "lang/tokens.txt": "3", "conf/x.yaml": None}
    with pytest.raises(UserError) as caught:
        step(inputs=inputs)
    assert str(caught.value) == (
        "stage 2 copy lacks data/feats.scp (stage 2 makes it), lang/tokens.txt (stage 3 makes it), conf/x.yaml; "
        "run with --stage 2"
    )
    assert runs() == 0


def test_a_missing_output_is_an_error_and_not_recorded(step: Run) -> None:
    with pytest.raises(UserError, match="stage 2 copy has ended without error, but has not made never, nor"):
        step(outputs=("out", "never", "nor"))
    assert not Path("records/copy.json").exists()


def test_an_optional_output_may_be_absent_but_counts(step: Run) -> None:
    fields = {"optional_outputs": ("extra",)}
    step(**fields)
    step(**fields)
    assert runs() == 1
    Path("extra").touch()
    step(**fields)
    assert runs() == 2


def test_failure_passes_the_code_on_and_forgets_the_record(step: Run) -> None:
    step()
    assert step(command=("bash", "-c", "exit 3")) == 3
    assert step(command=("bash", "-c", "kill -9 $$")) == 128 + 9
    step()
    assert runs() == 2


def test_a_command_that_refuses_its_arguments_leaves_the_record(step: Run) -> None:
    """Exit code 2 is argparse's; what was made before stays up to date."""
    step()
    assert step(command=("bash", "-c", "exit 2")) == 2
    step()
    assert runs() == 1


def test_a_stage_killed_while_running_runs_again(step: Run) -> None:
    step()
    assert not step(command=("bash", "-c", "test ! -e records/copy.json"))


def test_an_input_that_changes_during_the_run_makes_it_run_again(step: Run) -> None:
    fields = {"command": ("bash", "-c", "cp in out; echo >> runs; [ -e once ] || echo x >> in; touch once")}
    step(**fields)
    step(**fields)
    step(**fields)
    assert runs() == 2


def test_a_program_that_does_not_exist(step: Run) -> None:
    with pytest.raises(UserError, match="cannot start `no-such-program x`"):
        step(command=("no-such-program", "x"))


def test_a_file_system_without_locks_is_no_obstacle(
    step: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert step() == 0 and runs() == 1
    assert "this file system knows no locks ([Errno" in capsys.readouterr().out
