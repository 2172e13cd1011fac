"""The tables of all results: experiments × test sets, and means over seeds where there are several."""

from collections.abc import Collection
from pathlib import Path

import omnirouter
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write
from omnirouter.scoring.results import (
    HEADLINES,
    RATE_TITLES,
    UNKNOWN,
    Result,
    checkout_commit,
    collect_results,
    training_cells,
)
from omnirouter.scoring.seeds import seed_groups

NAME_COLUMNS = ("set", "experiment", "encoder", "baseline", "model")
REPORT_COLUMNS = (
    "active", "words", "95 % by speaker", "training utterances", "training words", "training hours",
    "config", "version", "commit", "s.d.",
)  # fmt: skip
LEGEND = (
    "raw WER: word errors per 100 reference words, transcripts as they are; lower is better.",
    "Whisper WER: the same after Whisper's English normaliser on both sides. CER: errors per 100 characters, raw.",
    "95 % interval: where the rate before it would fall with other utterances of the kind (bootstrap).",
)
REPORT_LEGEND = (
    "95 % by speaker: the same with other speakers.",
    "Training: the set trained on, with its copies at other speeds, and how many of its utterances `leave_out` listed. "
    "Config: first 8 digits of the SHA-256 of `config.yaml`. Version and commit: of the code that trained.",
)
SEEDS_LEGEND = (
    "Interval over seeds: where the mean would fall with other seeds of the training, on the same utterances (Student)."
)
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
"""Lines of a hand-written page between which its tables are put."""


def write_results(
    exp: Path, headline: str, page: Path | None = None, experiments: Collection[str] | None = None
) -> str:
    """Write the tables of all results and return narrower ones for a terminal.

    The rate named by `headline` (raw, whisper) comes first of the rates, with its interval. The file is
    `exp/RESULTS.md`, or else what `page` has between its lines BEGIN and END; `experiments` are then those shown.
    """
    results = collect_results(exp)
    if experiments is not None:
        results = _only(results, experiments, exp)
    rows = [table_row(result, HEADLINES[headline]) for result in results]
    over_seeds = [group.row(headline) for group in seed_groups(exp, results)]
    version = f"omnirouter {omnirouter.__version__}, commit {checkout_commit()}"
    legend = "".join(f"- {line}\n" for line in (*LEGEND, *REPORT_LEGEND))
    seeds = f"## Means over seeds\n\n{markdown(over_seeds)}\n\n- {SEEDS_LEGEND}\n\n" if over_seeds else ""
    tables = f"{markdown(rows)}\n\n{legend}\n{seeds}Tables by {version}.\n"
    path = page or exp / "RESULTS.md"
    text = f"# Results\n\n{tables}" if page is None else between_marks(page, tables)
    with atomic_write(path) as file:
        file.write(text)
    seeds_text = ["", plain_text(over_seeds), "", SEEDS_LEGEND] if over_seeds else []
    printed = ["", plain_text(rows), "", *LEGEND, *seeds_text]
    return "\n".join([*printed, f"More columns in {path}, by {version}."])


def between_marks(page: Path, tables: str) -> str:
    """Return the text of `page` with `tables` in the place of what stands between its lines BEGIN and END."""
    text = page.read_text(encoding="utf-8") if page.exists() else f"{BEGIN}\n{END}\n"
    lines = text.splitlines(keepends=True)
    places = [[i for i, line in enumerate(lines) if line.strip() == mark] for mark in (BEGIN, END)]
    if list(map(len, places)) != [1, 1] or places[0] > places[1]:
        raise UserError(f"{page}: put the lines {BEGIN} and {END}, once each, where the tables are to stand")
    (begin,), (end,) = places
    return "".join([*lines[: begin + 1], "\n", tables, "\n", *lines[end:]])


def _only(results: list[Result], experiments: Collection[str], exp: Path) -> list[Result]:
    """Return the results of these experiments; `UserError` for one that has none."""
    if missing := sorted(set(experiments) - {result.experiment for result in results}):
        raise UserError(f"{exp}: no scored experiment {', '.join(missing)}; decode and score it (stages 5 and 6)")
    return [result for result in results if result.experiment in experiments]


def table_row(result: Result, headline: str) -> dict[str, str]:
    """Return the cells of a result by column title; the rate `headline` comes first of the rates, with its interval."""
    head = result.rates[headline]
    others = {title: result.rates[name].percent for name, title in RATE_TITLES.items() if name != headline}
    return {
        "set": result.set_name,
        "experiment": result.experiment,
        "encoder": result.encoder,
        "parameters": result.parameters,
        "active": result.active_parameters,
        "utterances": head.utterances,
        "words": head.units,
        RATE_TITLES[headline]: head.percent,
        "95 % interval": f"{head.low} to {head.high}",
        "95 % by speaker": UNKNOWN
        if head.speaker_low in (None, "nan")
        else f"{head.speaker_low} to {head.speaker_high}",
        **others,
        **training_cells([result]),
    }


def markdown(rows: list[dict[str, str]]) -> str:
    """Return the table in Markdown, names to the left, numbers to the right."""
    rule = ["---" if title in NAME_COLUMNS else "---:" for title in rows[0]]
    cells = [[cell.replace("|", "\\|") for cell in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [list(rows[0]), rule, *cells])


def plain_text(rows: list[dict[str, str]]) -> str:
    """Return the table for a terminal: columns of equal width, without those that only a report needs."""
    columns = {title: [title, *(row[title] for row in rows)] for title in rows[0] if title not in REPORT_COLUMNS}
    for title, cells in columns.items():
        width = max(map(len, cells))
        columns[title] = [f"{cell:<{width}}" if title in NAME_COLUMNS else f"{cell:>{width}}" for cell in cells]
    titles, *lines = ["  ".join(cells) for cells in zip(*columns.values(), strict=True)]
    return "\n".join([titles, "-" * len(titles), *lines])
