"""The table of all results: experiments × test sets, from the score directories below `exp`."""

import hashlib
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import omnirouter
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_write
from omnirouter.scoring.report import RATE_FILES

UNKNOWN = "–"
RATE_PATTERN = re.compile(
    r"%WER (?P<percent>\S+) \[ \d+ / (?P<units>\d+), .*\]\n"
    r"95% Conf Interval \[ (?P<low>\S+), (?P<high>\S+) \].*\n"
    r"%SER .*\n"
    r"Scored (?P<utterances>\d+) utterances"
)
RATE_TITLES = {"wer": "raw WER %", "wer_whisper": "Whisper WER %", "cer": "CER %"}
HEADLINES = {"raw": "wer", "whisper": "wer_whisper"}
NAME_COLUMNS = ("set", "experiment", "encoder")
REPORT_COLUMNS = ("active", "words", "config", "commit")
LEGEND = (
    "raw WER: word errors per 100 reference words, transcripts as they are; lower is better.",
    "Whisper WER: the same after Whisper's English normaliser on both sides. CER: errors per 100 characters, raw.",
    "95 % interval: where the rate before it would fall with other utterances of the kind (bootstrap).",
)


@dataclass(frozen=True)
class Rate:
    """One error rate as its file in a score directory gives it, in percent, kept as text."""

    percent: str
    low: str
    high: str
    units: str
    utterances: str


@dataclass(frozen=True)
class Result:
    """One experiment on one set; `rates` by name of the rate file."""

    set_name: str
    experiment: str
    encoder: str
    parameters: str
    active_parameters: str
    config_hash: str
    commit: str
    """Of the code that trained it."""
    rates: dict[str, Rate]


def write_results(exp: Path, headline: str) -> str:
    """Write `exp/RESULTS.md` and return a narrower table for a terminal.

    The rate named by `headline` (raw, whisper) comes first of the rates, with its interval.
    """
    rows = [table_row(result, HEADLINES[headline]) for result in collect_results(exp)]
    version = f"omnirouter {omnirouter.__version__}, commit {checkout_commit()}"
    with atomic_write(exp / "RESULTS.md") as file:
        file.write(f"# Results\n\n{markdown(rows)}\n\n" + "".join(f"- {line}\n" for line in LEGEND))
        file.write("- Config: first 8 digits of the SHA-256 of `config.yaml`. Commit: of the code that trained.\n")
        file.write(f"- Table by {version}.\n")
    return "\n".join(["", plain_text(rows), "", *LEGEND, f"More columns in {exp / 'RESULTS.md'}, by {version}."])


def collect_results(exp: Path) -> list[Result]:
    """Read every `exp/*/decode_*/score`, ordered by set, then experiment; `UserError` if there is none.

    A name that begins with a dot is no experiment, but what a killed --restart has left of one.
    """
    scores = sorted(path for path in exp.glob("*/decode_*/score") if not path.parents[1].name.startswith("."))
    if not scores:
        raise UserError(f"{exp}: no */decode_*/score in it; decode and score an experiment first (stages 5 and 6)")
    return sorted(map(read_result, scores), key=lambda result: (result.set_name, result.experiment))


def read_result(score: Path) -> Result:
    """Read one score directory and what the experiment above it says of its model."""
    experiment = score.parents[1]
    encoder, config_hash = _read_config(experiment / "config.yaml")
    parameters, active_parameters, commit = _read_info(experiment / "model_info.json")
    return Result(
        set_name=score.parent.name.removeprefix("decode_"),
        experiment=experiment.name,
        encoder=encoder,
        parameters=parameters,
        active_parameters=active_parameters,
        config_hash=config_hash,
        commit=commit,
        rates={name: read_rate(score / name) for name in RATE_FILES},
    )


def read_rate(path: Path) -> Rate:
    """Read one of the rate files; `UserError` if it is not as `rate_report` writes it."""
    match = RATE_PATTERN.match(path.read_text(encoding="utf-8")) if path.is_file() else None
    if not match:
        raise UserError(f"{path}: missing, or not a file of stage 6; remove {path.parent} and score again")
    return Rate(**match.groupdict())


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


def checkout_commit() -> str:
    """Return the abbreviated commit of the checkout that runs, `-dirty` if edited; `unknown` outside a checkout."""
    root = Path(omnirouter.__file__).resolve().parents[1]
    if not (root / ".git").exists():  # else git would find any repository that a virtual environment stands in
        return "unknown"
    command = ["git", "--no-optional-locks", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def encoder_name(model: dict[str, Any]) -> str:
    """Name an encoder from the section `model` of a config: its kind, and how many experts (of each group) it has."""
    kind = model.get("encoder", UNKNOWN)
    if kind in ("dense", UNKNOWN):
        return kind
    groups = [str(experts) for _, experts in model.get("moe_groups") or []]
    return f"{kind}, {'+'.join(groups) or model.get('experts', UNKNOWN)} experts"


def _read_config(path: Path) -> tuple[str, str]:
    """Return the encoder's name and the hash of an experiment's config."""
    if not path.is_file():
        return UNKNOWN, UNKNOWN
    content = path.read_bytes()
    try:
        config = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML; put back the file that training wrote") from error
    return encoder_name(config["model"]), hashlib.sha256(content).hexdigest()[:8]


def _read_info(path: Path) -> tuple[str, str, str]:
    """Return how many parameters a model has, how many are active for one frame, and the commit it was trained at."""
    if not path.is_file():
        return UNKNOWN, UNKNOWN, UNKNOWN
    info = json.loads(path.read_text(encoding="utf-8"))
    counts = (f"{info[name] / 1e6:.2f}M" for name in ("parameters", "active_parameters"))
    return *counts, info.get("commit", UNKNOWN)
