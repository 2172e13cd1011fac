"""Configuration sections as dataclasses: built from YAML, checked, overridden, compared."""

import dataclasses
import difflib
import math
import shlex
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from omnirouter.data.errors import UserError

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make a (nested) dataclass from a mapping; unknown keys and wrong types raise UserError naming the key.

    where: the file and section, for the message.
    """
    return _construct(cls, checked(cls, values, where))


def checked(cls: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values with the types of a (nested) dataclass, checked as by `build` but each for itself."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected a section with keys, found {values!r}")
    types = typing.get_type_hints(cls)
    for key in values:
        if key not in types:
            near = difflib.get_close_matches(str(key), types, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"{where}: unknown key {key!r}{hint} (known: {', '.join(types)})")
    return {key: _convert(value, types[key], f"{where}: {key}") for key, value in values.items()}


def _construct(cls: type[T], values: Mapping[str, Any]) -> T:
    types = typing.get_type_hints(cls)
    sections = {key for key in values if dataclasses.is_dataclass(types[key])}
    return cls(**{key: _construct(types[key], v) if key in sections else v for key, v in values.items()})


def _convert(value: Any, kind: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return checked(kind, value, where)
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            value = float(value)  # YAML reads 1e-3 as a string
        except (ValueError, OverflowError):
            pass
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: expected a finite number, found {value!r}")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections with keys")
    return values


def split_words(text: str, option: str) -> list[str]:
    """Split an option's value into words as a shell would; `UserError` naming the option for an unclosed quote."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"{option} {text!r}: {error}") from error


def override(values: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply settings `section.key=value` (value read as YAML) to a copy of a nested mapping."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for setting in settings:
        name, separator, value = setting.partition("=")
        section, dot, key = name.partition(".")
        if not (separator and dot and key):
            raise UserError(f"--set {setting!r}: expected section.key=value, such as model.experts=4")
        if not isinstance(result.setdefault(section, {}), dict):
            raise UserError(f"--set {setting!r}: {section} is {result[section]!r}, expected a section with keys")
        try:
            result[section][key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that no calendar has
            hint = "a value with spaces needs quotes of its own, as in model.moe_groups='[[1, 2], [1, 4]]'"
            raise UserError(f"--set {setting!r}: {value!r} is not YAML; {hint}") from error
    return result


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name every leaf at which two nested mappings differ, with both values."""
    lines: list[str] = []
    for key in sorted({*old, *new}):
        a, b = old.get(key, "absent"), new.get(key, "absent")
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} there, {b!r} now")
    return lines
