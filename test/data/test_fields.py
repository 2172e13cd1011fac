"""Configuration sections: types, unknown keys, overrides, differences."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.data.fields import build, checked, differences, load_yaml, override, split_words


@dataclass
class Inner:
    rate: float = 1.0
    size: int = 2
    name: str = "x"
    sizes: list = field(default_factory=list)
    on: bool = False


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)


def test_values_are_converted_and_kept() -> None:
    built = build(Outer, {"inner": {"rate": "1e-3", "size": 5, "sizes": [[1, 2]], "on": True}}, "f.yaml")
    assert built == Outer(Inner(rate=0.001, size=5, sizes=[[1, 2]], on=True))
    assert build(Inner, {"rate": 2}, "f").rate == 2.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inner": {"rte": 1}}, ["f.yaml: inner", "unknown key 'rte'", "did you mean rate?"]),
        ({"zzz": 1}, ["f.yaml", "'zzz'", "inner"]),
        ({"inner": {"size": 1.5}}, ["size", "expected int", "1.5"]),
        ({"inner": {"size": True}}, ["size", "expected int", "True"]),
        ({"inner": {"rate": "fast"}}, ["rate", "expected float", "fast"]),
        ({"inner": 3}, ["inner", "section"]),
        ({"inner": None}, ["inner", "section"]),
        ({"inner": {"rate": ".nan"}}, ["rate", "expected float"]),
        ({"inner": {"rate": float("nan")}}, ["rate", "finite"]),
        ({"inner": {"rate": "inf"}}, ["rate", "finite"]),
        ({"inner": {"rate": -float("inf")}}, ["rate", "finite"]),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        build(Outer, values, "f.yaml")
    assert all(word in str(error.value) for word in words)


def test_override_reads_values_as_yaml_and_leaves_the_original() -> None:
    original = {"inner": {"size": 1, "name": "a"}}
    changed = override(original, ["inner.size=7", "inner.sizes=[[1, 2]]", "inner.name="])
    assert changed == {"inner": {"size": 7, "name": None, "sizes": [[1, 2]]}}
    assert original == {"inner": {"size": 1, "name": "a"}}
    with pytest.raises(UserError, match="section.key=value"):
        override(original, ["size=7"])
    with pytest.raises(UserError, match=r"--set 'inner.sizes=\[\[1,'.*not YAML; .*='\[\[1, 2\], \[1, 4\]\]'"):
        override(original, split_words("inner.sizes=[[1, 2]]", "--set"))
    assert override({}, split_words("a.b='[[1, 2], [1, 4]]' a.c=[1,2]", "--set")) == {
        "a": {"b": [[1, 2], [1, 4]], "c": [1, 2]}
    }
    with pytest.raises(UserError, match="--set 'inner.size=7': inner is None, expected a section"):
        override({"inner": None}, ["inner.size=7"])


def test_words_are_split_as_by_a_shell() -> None:
    assert split_words("a.b=1 'c.d=[1, 2]'", "--set") == ["a.b=1", "c.d=[1, 2]"]
    with pytest.raises(UserError, match="--set 'a\"b': No closing quotation"):
        split_words('a"b', "--set")


def test_checking_alone_does_not_construct() -> None:
    @dataclass
    class Never:
        size: int = 1

        def __post_init__(self) -> None:
            raise AssertionError

    assert checked(Never, {"size": 3}, "--set") == {"size": 3}
    with pytest.raises(UserError, match="--set: unknown key 'sise'"):
        checked(Never, {"sise": 3}, "--set")


def test_differences_name_both_values() -> None:
    old, new = {"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"x": 1, "y": 5}, "c": 4}
    assert differences(old, new) == ["a.y: 2 there, 5 now", "b: 3 there, 'absent' now", "c: 'absent' there, 4 now"]


def test_broken_yaml_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: [1,")
    with pytest.raises(UserError, match="c.yaml"):
        load_yaml(tmp_path / "c.yaml")
