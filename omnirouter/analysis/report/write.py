"""The report as a folder: page, data, audio and figures."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import omnirouter
from omnirouter.analysis.plot import colours
from omnirouter.analysis.report.curves import read_curves
from omnirouter.analysis.report.overview import (
    copy_figures,
    data_name,
    experiment_names,
    general_figures,
    is_scored,
    most_experts,
    read_routing,
    result_tables,
    set_figures,
    set_names,
)
from omnirouter.analysis.report.scripts import write_script
from omnirouter.analysis.report.sets import AudioFolder, ReportedSet, write_set
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir
from omnirouter.scoring.results import checkout_commit

SITE = Path(__file__).with_name("site")
LARGE_BYTES = 10_000_000
"""More than this of page and data are worth a word to the user."""


@dataclass(frozen=True)
class ReportOptions:
    """What goes into a report."""

    sets: Sequence[str] = ()
    """Names; none: every set on which an experiment was scored."""
    data_dirs: Sequence[Path] = ()
    """Of the sets with these folders' names; of others, `data/SET` beside `exp`, where recipes have them."""
    with_audio: bool = True
    headline: str = "raw"
    """Rate that leads the table: raw or whisper."""
    allow_pipes: bool = False


def write_report(experiments: Sequence[Path], output: Path, options: ReportOptions = ReportOptions()) -> int:
    """Write the folder `output`, in the place of an earlier report; `UserError` if something else is there.

    Returns the bytes of the page and its data, without those of audio and figures.
    """
    _check_folders(experiments, output)
    names = set_names(experiments, options.sets)
    _check_data_dirs(options.data_dirs, names)
    sets = []
    for number, name in enumerate(names):
        scored = [path if is_scored(path, name) else None for path in experiments]
        sets.append(ReportedSet(name, number, scored, _data_dir(experiments, data_name(name), options)))
    with atomic_dir(output) as folder:
        shutil.copytree(SITE, folder, dirs_exist_ok=True)
        (folder / "data").mkdir()
        audio = AudioFolder(folder / "audio") if options.with_audio else None
        described = [write_set(one, folder / "data", audio, options.allow_pipes) for one in sets]
        routing = [[read_routing(path, name) for path in experiments] for name in names]
        index = {
            "made": f"omnirouter {omnirouter.__version__}, commit {checkout_commit()}",
            "experiments": experiment_names(experiments),
            "results": result_tables(experiments, names, options.headline),
            "curves": read_curves(experiments),
            "sets": described,
            "routing": routing,
            "expert_colours": colours(most_experts(described, routing)),
            "figures": [_figures(experiments, one, folder) for one in sets],
            "general_figures": [
                copy_figures(general_figures(path), folder / f"figures/{number}")
                for number, path in enumerate(experiments)
            ],
        }
        write_script(folder / "data", "index", index)
        of_page = [folder / "index.html", *folder.glob("page/*"), *folder.glob("data/*")]
        return sum(path.stat().st_size for path in of_page)


def _figures(experiments: Sequence[Path], reported: ReportedSet, folder: Path) -> list[list[str]]:
    """Copy a set's figures to `folder/figures/SET-EXPERIMENT`, both numbers; return their names by experiment."""
    return [
        copy_figures(set_figures(path, reported.name), folder / f"figures/{reported.number}-{number}")
        for number, path in enumerate(experiments)
    ]


def _check_folders(experiments: Sequence[Path], output: Path) -> None:
    """Refuse what is no experiment, and to replace what is no report."""
    for path in experiments:
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path}: not an experiment directory, since it has no config.yaml; name one of exp/")
    if output.exists() and not (output / "data/index.js").is_file() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"{output}: holds something else than a report; name another folder")


def _check_data_dirs(data_dirs: Sequence[Path], names: Sequence[str]) -> None:
    for path in data_dirs:
        if path.name not in map(data_name, names):
            raise UserError(f"--data {path}: {path.name} is none of the sets reported: {', '.join(names)}")


def _data_dir(experiments: Sequence[Path], name: str, options: ReportOptions) -> Path | None:
    """Return where the data directory of a name is; None if not found and not asked for."""
    named = [path for path in options.data_dirs if path.name == name]
    beside = [path.resolve().parents[1] / "data" / name for path in experiments]
    found = next((path for path in [*named, *beside] if (path / "wav.scp").is_file()), None)
    if found is None and options.with_audio:
        raise UserError(f"no data directory of {name}: name it with --data, or give --no-audio")
    return found
