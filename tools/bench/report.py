"""What a benchmark gives: tables in Markdown, and which targets hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.timing import CONFIDENCE, Spread


@dataclass(frozen=True)
class Target:
    """A bound, and the worst of the figures that have to keep it."""

    what: str
    measured: float
    bound: float
    at_least: bool = False
    """Whether the bound is the least that will do; otherwise it is the most."""
    where: str = ""
    """Row of the figure."""

    @property
    def holds(self) -> bool:
        """Tell whether the figure keeps the bound; a figure that is no number does not."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        sign, place = ("≥" if self.at_least else "≤"), (f" ({self.where})" if self.where else "")
        return f"{'holds' if self.holds else 'missed'}: {self.what} {sign} {self.bound:g}: {self.measured:.3g}{place}"


def worst(what: str, figures: Sequence[tuple[str, float]], bound: float, at_least: bool = False) -> list[Target]:
    """The target of several rows' figures, (row, figure), decided by the worst; none where there is no row."""
    if not figures:
        return []
    where, measured = (min if at_least else max)(figures, key=lambda figure: figure[1])
    return [Target(what, measured, bound, at_least, where)]


def none_faster(comparisons: Sequence[tuple[str, Spread]]) -> list[Target]:
    """The target that no peer is faster than ours by more than the noise; none where there is no peer.

    comparisons: (row, peer's time / ours, both taken in the same rounds). A peer is faster where all of the interval of
    its median lies below 1.
    """
    figures = [(f"{where}; median {peer.median:.3f}", peer.median_high) for where, peer in comparisons]
    what = f"any peer / ours, upper end of the {CONFIDENCE:.0%} interval of its median"
    return worst(what, figures, 1.0, at_least=True)


@dataclass(frozen=True)
class Report:
    """One table of a benchmark."""

    title: str
    header: list[str]
    rows: list[list[str]]
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Title, notes, table and targets."""
        targets = "\n".join(f"- {target}" for target in self.targets)
        parts = [f"### {self.title}", *self.notes, markdown_table(self.header, self.rows), targets]
        return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns line up as text too; all but the first are set to the right."""
    widths = [max(3, *(len(row[column]) for row in (header, *rows))) for column in range(len(header))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in (header, rule, *rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = cells
    aligned = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
    return f"| {' | '.join(aligned)} |"
