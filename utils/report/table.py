"""A table as text and Markdown."""

from dataclasses import dataclass, field


@dataclass
class Table:
    """Cells of text under a header; ``notes`` stand below."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Aligned columns: words to the left, the rest to the right."""
        widths = [max(len(cell) for cell in column) for column in zip(self.header, *self.rows, strict=True)]
        left = [all(row[place].strip()[:1].isalpha() for row in self.rows) for place in range(len(self.header))]

        def line(cells: tuple[str, ...]) -> str:
            aligned = [
                cell.ljust(width) if is_left else cell.rjust(width)
                for cell, width, is_left in zip(cells, widths, left, strict=True)
            ]
            return "  ".join(aligned).rstrip()

        rule = "  ".join("-" * width for width in widths)
        notes = ["", *self.notes] if self.notes else []
        return "\n".join([self.title, "", line(self.header), rule, *map(line, self.rows), *notes])

    def markdown(self) -> str:
        """For a page."""

        def line(cells: tuple[str, ...]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        head = [f"## {self.title}", "", line(self.header), line(("---",) * len(self.header))]
        return "\n".join([*head, *map(line, self.rows), "", *(f"- {note}" for note in self.notes)])
