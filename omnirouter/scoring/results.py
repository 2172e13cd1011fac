"""Results of experiments on test sets, read from the score directories below `exp`."""

import hashlib
import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import omnirouter
from omnirouter.data.errors import UserError
from omnirouter.data.files import digest
from omnirouter.decoding.folders import set_title
from omnirouter.scoring.report import ALIGNERS, RATE_FILES

UNKNOWN = "–"
RATE_PATTERN = re.compile(
    r"%WER (?P<percent>\S+) \[ (?P<errors>\d+) / (?P<units>\d+), .*\]\n"
    r"95% Conf Interval \[ (?P<low>\S+), (?P<high>\S+) \].*\n"
    r"%SER .*\n"
    r"Scored (?P<utterances>\d+) utterances, (?P<counted>.*)\.\n"
    r"(?:95% Conf Interval \[ (?P<speaker_low>\S+), (?P<speaker_high>\S+) \] .* speakers\n)?"
)
RATE_TITLES = {"wer": "raw WER %", "wer_whisper": "Whisper WER %", "cer": "CER %"}
HEADLINES = {"raw": "wer", "whisper": "wer_whisper"}


@dataclass(frozen=True)
class Rate:
    """One error rate as its file in a score directory gives it, in percent, kept as text."""

    percent: str
    errors: str
    low: str
    high: str
    units: str
    utterances: str
    counted: str
    """What was counted, and how it was aligned if not at unit cost."""
    speaker_low: str | None
    """Of the interval by speaker; None in a file of a version that wrote none, nan of one speaker."""
    speaker_high: str | None

    @property
    def exact_percent(self) -> float:
        """The rate before it was rounded."""
        return 100 * int(self.errors) / int(self.units) if int(self.units) else float(self.percent)


@dataclass(frozen=True)
class TrainingData:
    """How much an experiment was trained on."""

    utterances: int
    words: int
    hours: float


@dataclass(frozen=True)
class Result:
    """One experiment on one set; `rates` by name of the rate file."""

    set_name: str
    """And how it was decoded, if not greedily, and aligned, if not at unit cost."""
    experiment: str
    encoder: str
    parameters: str
    active_parameters: str
    config_hash: str
    version: str
    commit: str
    """Of the code that trained it, as `version`."""
    training: TrainingData | None
    """None where its set is no longer there, or no longer the same."""
    left_out: int
    """Utterances of that set which its training left out by the user's list."""
    rates: dict[str, Rate]


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
    rates = {name: read_rate(score / name) for name in RATE_FILES}
    aligned = " by sclite" if ALIGNERS["sclite"][1] in rates["wer"].counted else ""
    encoder, config_hash, training = _read_config(experiment / "config.yaml")
    parameters, active_parameters, version, commit, left_out = _read_info(experiment / "model_info.json")
    return Result(
        set_name=set_title(score.parent.name) + aligned,
        experiment=experiment.name,
        encoder=encoder,
        parameters=parameters,
        active_parameters=active_parameters,
        config_hash=config_hash,
        version=version,
        commit=commit,
        training=training,
        left_out=left_out,
        rates=rates,
    )


def training_cells(results: Sequence[Result]) -> dict[str, str]:
    """Return the cells, by column title, that say what one result, or those of several seeds, was trained from.

    Of seeds each cell names what differs: the config does, by the seed itself; the code may.
    """
    cells = [
        {
            "training utterances": (f"{training.utterances}" if training else UNKNOWN)
            + (f" ({result.left_out} left out)" if result.left_out else ""),
            "training words": f"{training.words}" if training else UNKNOWN,
            "training hours": f"{training.hours:.1f}" if training else UNKNOWN,
            "config": result.config_hash,
            "version": result.version,
            "commit": result.commit,
        }
        for result in results
        for training in [result.training]
    ]
    return {title: ", ".join(dict.fromkeys(row[title] for row in cells)) for title in cells[0]}


def read_rate(path: Path) -> Rate:
    """Read one of the rate files; `UserError` if it is not as `rate_report` writes it."""
    match = RATE_PATTERN.match(path.read_text(encoding="utf-8")) if path.is_file() else None
    if not match:
        raise UserError(f"{path}: missing, or not a file of stage 6; remove {path.parent} and score again")
    return Rate(**match.groupdict())


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


def _read_config(path: Path) -> tuple[str, str, TrainingData | None]:
    """Return the encoder's name, the hash of an experiment's config, and what it was trained on."""
    if not path.is_file():
        return UNKNOWN, UNKNOWN, None
    content = path.read_bytes()
    try:
        config = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML; put back the file that training wrote") from error
    return encoder_name(config["model"]), hashlib.sha256(content).hexdigest()[:8], _training_data(path, config)


def _training_data(path: Path, config: dict[str, Any]) -> TrainingData | None:
    """Count the training set that a config (of the file `path`) names, seen from its recipe, the folder above exp/."""
    inputs = config.get("inputs", {})
    folder = path.resolve().parents[2] / inputs.get("train", "")
    if not all((folder / name).is_file() for name in ("text", "utt2dur")):
        return None
    text_digest, counted = _count_data(folder)
    return counted if text_digest in inputs.get("digests", {}).values() else None


@cache
def _count_data(folder: Path) -> tuple[str, TrainingData]:
    """Return the digest of a data directory's transcripts, and how much it holds."""
    with open(folder / "text", encoding="utf-8") as file:
        words = [len(line.split()) - 1 for line in file]
    with open(folder / "utt2dur", encoding="utf-8") as file:
        seconds = sum(float(line.split()[1]) for line in file)
    return digest(folder / "text"), TrainingData(len(words), sum(words), seconds / 3600)


def _read_info(path: Path) -> tuple[str, str, str, str, int]:
    """Return how many parameters a model has, how many are active for a frame, the version and commit it is of, and how
    many utterances its training left out.
    """
    if not path.is_file():
        return UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 0
    info = json.loads(path.read_text(encoding="utf-8"))
    counts = (f"{info[name] / 1e6:.2f}M" for name in ("parameters", "active_parameters"))
    return *counts, info.get("version", UNKNOWN), info.get("commit", UNKNOWN), info.get("left_out", 0)
