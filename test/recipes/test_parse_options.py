"""utils/parse_options.sh, driven by a script of its own with every kind of option."""

import shlex
import subprocess
from pathlib import Path

import pytest

PARSER = Path(__file__).parents[2] / "egs/TEMPLATE/asr1/utils/parse_options.sh"
SCRIPT = """#!/usr/bin/env bash
# What the script is for.
#
set -euo pipefail
not_an_option=1     # stands before the options
# Options
stage=0             # first stage
stop_stage=7        # last stage
name=               # a name
value="two words"   # shadows nothing of the parser's
set=                # settings
force=false         # do it anyway
# End of options
after=1             # stands behind the options
. "{parser}"
printf '%s\\n' "$stage" "$stop_stage" "$name" "$value" "$set" "$force"
"""
DEFAULTS = {"stage": "0", "stop_stage": "7", "name": "", "value": "two words", "set": "", "force": "false"}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "a script.sh"
    path.write_text(SCRIPT.format(parser=PARSER))
    return path


def call(script: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(script), *args], capture_output=True, text=True, timeout=10, cwd=script.parent, check=False
    )


GOOD = {
    "nothing": ([], {}),
    "two words": (["--stage", "3"], {"stage": "3"}),
    "one word": (["--stage=3"], {"stage": "3"}),
    "dash": (["--stop-stage", "5"], {"stop_stage": "5"}),
    "underscore": (["--stop_stage=5"], {"stop_stage": "5"}),
    "flag": (["--force", "--stage", "1"], {"force": "true", "stage": "1"}),
    "the last counts": (["--name", "a", "--name=b"], {"name": "b"}),
    "the last counts after a number": (["--name", "5", "--name=a"], {"name": "a"}),
    "the last counts after a number, even if empty": (["--name=5", "--name="], {}),
    "the last counts of numbers": (["--stage", "1", "--stage", "2"], {"stage": "2"}),
    "empty value": (["--value", "", "--stage", "2"], {"value": "", "stage": "2"}),
    "empty value after =": (["--value="], {"value": ""}),
    "value with =": (["--set=a=1 b=2"], {"set": "a=1 b=2"}),
    "value with dashes": (["--set=--stage 3"], {"set": "--stage 3"}),
    "negative number": (["--set", "-1"], {"set": "-1"}),
    "names of the parser": (["--name", "n", "--value", "v"], {"name": "n", "value": "v"}),
    "spaces and quotes": (["--name", """a  b "c" 'd' *"""], {"name": """a  b "c" 'd' *"""}),
    "substitution": (["--name", "$(touch made) `touch made` $HOME \\n;touch made"], {"name": None}),
    "not ASCII": (["--name", "größe 日本"], {"name": "größe 日本"}),
}


@pytest.mark.parametrize("args, changes", GOOD.values(), ids=GOOD.keys())
def test_values_arrive_unharmed(script: Path, args: list[str], changes: dict[str, str | None]) -> None:
    changes = {key: args[-1] if value is None else value for key, value in changes.items()}
    result = call(script, *args)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.removesuffix("\n").split("\n") == list({**DEFAULTS, **changes}.values())
    assert [path.name for path in script.parent.iterdir()] == [script.name], "a value was executed"


VALID = "--help --stage --stop-stage --name --value --set --force"
BAD = {
    "trailing name": (["--stage"], "--stage lacks a value: first stage\n"),
    "name after a name": (["--stop-stage", "--force"], "--stop-stage lacks a value: last stage (a value '--force' is "),
    "name and value after a name": (["--stage", "--stop-stage", "8"], "--stage lacks a value"),
    "unknown": (["--stge", "3"], f"unknown option --stge; valid ones are {VALID}"),
    "unknown with =": (["--stge=3"], f"unknown option --stge; valid ones are {VALID}"),
    "variable that is no option": (["--PATH=/"], "unknown option --PATH"),
    "variable before the options": (["--not-an-option=2"], "unknown option --not-an-option"),
    "variable behind the options": (["--after=2"], "unknown option --after"),
    "variable of the parser": (["--_option_names=x"], "unknown option"),
    "array element": (["--stage[0]=$(touch made)"], "unknown option"),
    "stray word": (["--stage", "2", "3"], "unexpected argument '3'"),
    "stray empty word": (["--stage", "2", "", "--name", "x"], "unexpected argument ''"),
    "one dash": (["-stage", "2"], "unexpected argument '-stage'"),
    "only dashes": (["--", "x"], "unexpected argument '--'"),
    "not a number": (["--stage", "two"], "--stage must be a whole number, not 'two'"),
    "not decimal": (["--stage=08"], "--stage must be a whole number, not '08'"),
    "expression as number": (["--stage", "a[$(touch made)]"], "--stage must be a whole number"),
    "not a number, after one": (["--stage", "1", "--stage", "two"], "--stage must be a whole number, not 'two'"),
    "no number": (["--stage="], "--stage must be a whole number, not ''"),
    "flag with value": (["--force=true"], "--force takes no value"),
    "flag with word": (["--force", "true"], "unexpected argument 'true'"),
}


@pytest.mark.parametrize("args, message", BAD.values(), ids=BAD.keys())
def test_mistakes_are_refused(script: Path, args: list[str], message: str) -> None:
    result = call(script, *args)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in script.parent.iterdir()] == [script.name], "a value was executed"


def test_the_form_that_a_mistake_suggests_can_be_pasted(script: Path) -> None:
    value = '--train 60 it\'s "$HOME" *'
    refused = call(script, "--value", value).stderr
    hint = refused.removesuffix(")\n").partition("is given as ")[2]
    pasted = subprocess.run(["bash", "-c", f"bash {shlex.quote(str(script))} {hint}"], capture_output=True, text=True)
    assert pasted.stdout.splitlines()[3] == value, refused


def test_help_comes_from_the_defaults_and_their_comments(script: Path) -> None:
    result = call(script, "--name", "x y", "--help", "--stage", "2")
    assert result.returncode == 0
    assert result.stdout == (
        "What the script is for.\n"
        "\n"
        "Options, with their values here:\n"
        "  --stage             first stage [2]\n"
        "  --stop-stage        last stage [7]\n"
        "  --name              a name [x y]\n"
        "  --value             shadows nothing of the parser's [two words]\n"
        "  --set               settings\n"
        "  --force             do it anyway\n"
        "  --help              print this\n"
    )


def test_a_mistake_counts_beside_help(script: Path) -> None:
    assert call(script, "--help", "--stge=2").returncode == 1


CALLER = """#!/usr/bin/env bash
# What the caller is for.
#
set -euo pipefail
_callee="{callee}"
# Options
hours=960           # hours of speech
# End of options
. "{parser}"
printf '%s\\n' "$hours"
exec bash "$_callee" --stage 4 "${{passed_on[@]}}"
"""


@pytest.fixture
def caller(script: Path) -> Path:
    """A script with an option of its own, which hands the others to `script`."""
    path = script.parent / "caller.sh"
    path.write_text(CALLER.format(callee=script, parser=PARSER))
    return path


PASSED_ON = {
    "nothing": ([], "960", {}),
    "its own": (["--hours", "100"], "100", {}),
    "the other's": (["--stage=3", "--name", """a  "b" $(touch made)"""], "960", {"stage": "3", "name": None}),
    "both": (["--force", "--hours=100", "--set", ""], "100", {"force": "true"}),
    "its own name as a value": (["--set=--hours 100"], "960", {"set": "--hours 100"}),
}


@pytest.mark.parametrize("args, hours, changes", PASSED_ON.values(), ids=PASSED_ON.keys())
def test_a_caller_passes_on_what_is_not_its_own(
    caller: Path, args: list[str], hours: str, changes: dict[str, str | None]
) -> None:
    changes = {key: args[-1] if value is None else value for key, value in changes.items()}
    result = call(caller, *args)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [hours, *{**DEFAULTS, "stage": "4", **changes}.values()]
    assert not (caller.parent / "made").exists()


def test_a_caller_refuses_what_neither_knows(caller: Path) -> None:
    result = call(caller, "--hour", "100")
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr == f"error: unknown option --hour; valid ones are {VALID.replace('--help', '--help --hours')}\n"
    )
    assert "--hours must be a whole number" in call(caller, "--hours", "all").stderr
    assert "--stage must be a whole number" in call(caller, "--stage", "all").stderr


def test_a_caller_of_a_caller_passes_on_the_options_of_both(caller: Path, script: Path) -> None:
    first = script.parent / "first.sh"
    text = CALLER.format(callee="", parser=PARSER).replace("hours", "jobs")
    first.write_text(text.replace('_callee=""', f'_callee=("{caller}" "{script}")'))
    result = call(first, "--stage", "3", "--hours=100", "--jobs", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["2", "100", *{**DEFAULTS, "stage": "3"}.values()]
    assert "valid ones are --help --jobs --hours --stage" in call(first, "--hour", "1").stderr
    lines = call(first, "--help").stdout.splitlines()
    assert [any(line.startswith(f"  --{name} ") for line in lines) for name in ("jobs", "hours", "stage")] == [True] * 3


def test_help_of_a_caller_and_of_what_it_calls(caller: Path) -> None:
    lines = call(caller, "--help", "--hours", "100").stdout.splitlines()
    assert lines[0] == "What the caller is for." and "  --hours             hours of speech [100]" in lines
    assert "What the script is for." in lines and "  --stage             first stage [4]" in lines
    assert sum(line.startswith("  --help ") for line in lines) == 1
