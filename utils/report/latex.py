r"""A report's tables for a paper: LaTeX with the rules of booktabs, to be read by ``\input``."""

import re
import unicodedata
from collections.abc import Sequence

from tabulate import LATEX_ESCAPE_RULES

from utils.report.tables import OF_WORDS, Table

# At the beginning of a row "[" and "*" would be options of the row before.
ESCAPES = LATEX_ESCAPE_RULES | {"[": "{[}", "*": "{*}", "|": r"\textbar{}", '"': "''", "±": r"$\pm$"}


def page(tables: Sequence[Table], title: str, label: str) -> str:
    """The tables, under a comment that says what they need.

    Args:
        tables: The tables; a table's label ends in its number, from 1 on.
        title: The beginning of their captions.
        label: The beginning of their labels, which differ from those of other reports in a paper.
    """
    text = "\n".join(_table(table, f"tab:{label}:{name}", title) for name, table in enumerate(tables, start=1))
    needs = [r"% For \input. The preamble needs \usepackage{booktabs} and, for pdflatex, \usepackage[T1]{fontenc}."]
    if max(text, default="") > "\u017f":  # the last of the Latin letters that T1 has
        needs.append(r"% There are letters that pdflatex may lack: take xelatex or lualatex, for Chinese with ctex.")
    return "\n".join([*needs, "", text])


def _table(table: Table, label: str, title: str) -> str:
    caption = " ".join(map(escape, [f"{title}.", f"{table.title}.", *table.notes]))
    sides = "".join("l" if title in OF_WORDS else "r" for title in table.cells)
    cells = table.cells.map(_cell).rename(columns=escape).style.hide(axis="index")
    look = {"column_format": sides, "position_float": "centering", "hrules": True}
    text = cells.to_latex(caption=caption, label=label, **look)
    return text.replace(r"\begin{tabular}", "\\footnotesize\n\\begin{tabular}")


def _cell(cell: str) -> str:
    if cell.startswith("**") and cell.endswith("**"):
        return rf"\textbf{{{escape(cell[2:-2])}}}"
    return r"\quad " * cell.startswith("  ") + escape(cell)


def escape(text: str) -> str:
    """The text in one line for LaTeX: all letters are text, numbers have their minus sign and power of ten."""
    plain = "".join(letter if letter.isprintable() else " " for letter in unicodedata.normalize("NFC", text))
    plain = " ".join(plain.split()).translate(str.maketrans(ESCAPES))
    plain = re.sub(r"\b(\d(?:\.\d+)?)e-0*(\d+)\b", r"\1$\\times10^{-\2}$", plain)
    plain = re.sub(r"(?<![\w{}])-(?=\d)", "$-$", plain)
    return re.sub("-(?=-)", "-{}", plain)  # "--" would be a dash
