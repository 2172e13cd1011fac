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


def split_name(folder: str) -> tuple[str, str]:
    """Return the set and the way of decoding of such a folder's name."""
    name = folder.removeprefix("decode_")
    stem, _, ending = name.rpartition("_")
    return (stem, ending) if stem and ending in DECODINGS[1:] else (name, "greedy")
