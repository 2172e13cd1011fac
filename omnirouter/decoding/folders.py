"""The folders of an experiment that hold hypotheses: a set has one for each way of decoding it."""

from pathlib import Path

from omnirouter.data.errors import UserError

DECODINGS = ("greedy", "beam", "lm")
"""The most probable path; beam search; beam search with a language model."""


def decode_dir(exp: Path, set_name: str, decoding: str) -> Path:
    """Return the folder `decode_<set>`, and `_beam` or `_lm` after it; UserError for a set that has such a name."""
    if split_name(f"decode_{set_name}")[1] != "greedy":
        raise UserError(f"the data directory {set_name} is named like the results of a beam search; rename it")
    return exp / (f"decode_{set_name}" if decoding == "greedy" else f"decode_{set_name}_{decoding}")


def set_title(folder: str) -> str:
    """Return the name of a set for a table from that of such a folder: `test`, `test (beam)` or `test (lm)`."""
    set_name, decoding = split_name(folder)
    return set_name if decoding == "greedy" else f"{set_name} ({decoding})"


def split_name(folder: str) -> tuple[str, str]:
    """Return the set and the way of decoding of such a folder's name."""
    name = folder.removeprefix("decode_")
    stem, _, ending = name.rpartition("_")
    return (stem, ending) if stem and ending in DECODINGS[1:] else (name, "greedy")
