"""The README's commands: each section says where to stand and activates the environment, and what it names exists."""

import re
from pathlib import Path

import pytest

from omnirouter.scoring.result_table import LEGEND

ROOT = Path(__file__).parents[2]
SECTIONS = dict(re.findall(r"^##+ (.+)\n((?:(?!##).*\n)*)", (ROOT / "README.md").read_text(), re.MULTILINE))
COMMAND = re.compile(r"(\. \S*/activate|cd egs/|(egs|tools|test)/\S*run|\./\w+\.sh|python -m|torchrun) ?.*")


def commands(section: str) -> list[str]:
    """The commands of a section, those on one line apart, without comments."""
    lines = (line.strip().partition(" #")[0] for line in section.splitlines() if line.startswith("    "))
    return [part for line in lines for part in line.split(" && ") if COMMAND.match(part)]


WITH_COMMANDS = {name: found for name, section in SECTIONS.items() if (found := commands(section))}


def test_there_are_commands() -> None:
    assert {"Recipes", "Your own speech", "Comparing experiments", "A report to look at"} <= set(WITH_COMMANDS)


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_a_reader_of_one_section_can_give_its_commands(name: str) -> None:
    folder, active = ROOT, False
    for command in WITH_COMMANDS[name]:
        words = command.split()
        if words[0] == ".":
            folder, active = (ROOT, True) if words[1] == ".venv/bin/activate" else (folder, True)
            assert (folder / words[1]).resolve() == ROOT / ".venv/bin/activate", command
        elif words[0] == "cd":
            folder = ROOT / words[1]
        elif words[0] in ("python", "torchrun"):
            assert active, f"{command}: not in the environment"
        else:
            assert (folder / words[0]).is_file(), f"{command}: not in {folder}"
        beginnings = {word.split("/")[0] for word in words[1:] if "/" in word}
        if beginnings & {"exp", "data", "conf"}:
            assert (folder / "run.sh").is_file(), f"{command}: no recipe's folder"
        if "egs" in beginnings and words[0] != "cd":
            assert folder == ROOT, command
        for module in re.findall(r"omnirouter\.bin\.(\w+)", command):
            assert (ROOT / f"omnirouter/bin/{module}.py").exists()


def test_the_first_command_is_shown_to_end_as_it_does() -> None:
    """The numbers are of a run; what stands below the table is what the program prints there."""
    section = SECTIONS["Five minutes' start"]
    begin = section.index("    set   experiment")
    _, legend, _ = re.split(r"\n\n", section[begin:], maxsplit=2)
    *lines, last = (line.removeprefix("    ") for line in legend.splitlines())
    assert tuple(lines) == LEGEND
    assert re.fullmatch(r"More columns in exp/RESULTS.md, by omnirouter [\d.]+, commit [0-9a-f]{7}\.", last)
