"""The tables of all results: experiments × test sets, and means over seeds where there are several."""

from pathlib import Path

import omnirouter
from omnirouter.data.files import atomic_write
from omnirouter.scoring.results import HEADLINES, RATE_TITLES, Result, checkout_commit, collect_results
from omnirouter.scoring.seeds import seed_groups

NAME_COLUMNS = ("set", "experiment", "encoder")
REPORT_COLUMNS = ("active", "words", "config", "commit", "s.d.")
LEGEND = (
    "raw WER: word errors per 100 reference words, transcripts as they are; lower is better.",
    "Whisper WER: the same after Whisper's English normaliser on both sides. CER: errors per 100 characters, raw.",
    "95 % interval: where the rate before it would fall with other utterances of the kind (bootstrap).",
)
SEEDS_LEGEND = (
    "Interval over seeds: where the mean would fall with other seeds of the training, on the same utterances (Student)."
)


def write_results(exp: Path, headline: str) -> str:
    """Write `exp/RESULTS.md` and return a narrower table for a terminal.

    The rate named by `headline` (raw, whisper) comes first of the rates, with its interval.
    """
    results = collect_results(exp)
    rows = [table_row(result, HEADLINES[headline]) for result in results]
    over_seeds = [group.row(headline) for group in seed_groups(exp, results)]
    version = f"omnirouter {omnirouter.__version__}, commit {checkout_commit()}"
    with atomic_write(exp / "RESULTS.md") as file:
        file.write(f"# Results\n\n{markdown(rows)}\n\n" + "".join(f"- {line}\n" for line in LEGEND))
        file.write("- Config: first 8 digits of the SHA-256 of `config.yaml`. Commit: of the code that trained.\n")
        if over_seeds:
            file.write(f"\n## Means over seeds\n\n{markdown(over_seeds)}\n\n- {SEEDS_LEGEND}\n")
        file.write(f"\nTables by {version}.\n")
    seeds_text = ["", plain_text(over_seeds), "", SEEDS_LEGEND] if over_seeds else []
    printed = ["", plain_text(rows), "", *LEGEND, *seeds_text]
    return "\n".join([*printed, f"More columns in {exp / 'RESULTS.md'}, by {version}."])


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
        **others,
        "config": result.config_hash,
        "commit": result.commit,
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
