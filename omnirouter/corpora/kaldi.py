"""One's own corpus: a folder of Kaldi-style data directories, checked and completed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from omnirouter.data.datadir import complete_data_dir
from omnirouter.data.errors import UserError
from omnirouter.data.parsing import CURRENT
from omnirouter.data.validate import validate_data_dirs


def prepare_kaldi(
    corpus_dir: Path,
    output: Path,
    sets: Sequence[str] = (),
    deep: bool | None = None,
    allow_pipes: bool = False,
    paths_from: Path = CURRENT,
) -> None:
    """Copy the data directories `corpus_dir`/<set> to `output`/<set> with all tables, if none has a problem.

    Without `sets`, all that are there. All problems of all sets are reported at once, a missing set among them, and
    nothing is written then. `deep` decodes all audio (None: if there are few utterances). Relative paths in `wav.scp`
    are relative to `paths_from`; the copies have absolute ones, which hold wherever they are read from.
    """
    found = sorted(path.parent for path in corpus_dir.glob("*/wav.scp"))
    sources = [corpus_dir / name for name in dict.fromkeys(sets)] or found
    if not found:
        raise UserError(f"{corpus_dir}: no <set>/wav.scp in it; give the folder that holds the data directories")
    if output.resolve() == corpus_dir.resolve():
        raise UserError(f"{corpus_dir}: is also the output; your own directories would be replaced: choose another")
    base = paths_from.absolute()
    reports = validate_data_dirs(sources, deep, allow_pipes, base)
    for problem in (problem for report in reports for problem in report.problems):
        print(problem, file=sys.stderr)
    bad = [str(report.path) for report in reports if not report.is_good]
    if bad:
        raise UserError(f"problems in {', '.join(bad)}, listed above; nothing was written")
    for report, source in zip(reports, sources, strict=True):
        print(report)
        complete_data_dir(source, output / source.name, allow_pipes, base)
