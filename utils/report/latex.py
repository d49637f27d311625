r"""A report's tables for a paper: LaTeX with the rules of booktabs, to be read by ``\input``."""

import re
import unicodedata
from collections.abc import Mapping

from tabulate import LATEX_ESCAPE_RULES

from utils.report.tables import Bold, Table
from utils.suite.file import slug

# At the beginning of a row "[" and "*" would be options of the row before.
ESCAPES = LATEX_ESCAPE_RULES | {"[": "{[}", "*": "{*}", "|": r"\textbar{}", '"': "''", "±": r"$\pm$"}


def page(tables: Mapping[str, Table], title: str) -> str:
    """The tables, by the ends of their labels, under a comment that says what they need."""
    text = "\n".join(_table(table, f"{slug(title)}:{name}", title) for name, table in tables.items())
    needs = [r"% For \input. The preamble needs \usepackage{booktabs} and, for pdflatex, \usepackage[T1]{fontenc}."]
    if max(text) > "\u017f":  # the last of the Latin letters that T1 has
        needs.append(r"% There are letters that pdflatex may lack: take xelatex or lualatex, for Chinese with ctex.")
    return "\n".join([*needs, "", text])


def _table(table: Table, label: str, title: str) -> str:
    rows = [" & ".join(map(_cell, row)) + r" \\" for row in (table.header, *table.rows)]
    caption = " ".join(map(escape, [f"{title}.", f"{table.title}.", *table.notes]))
    columns = "l" * table.num_names + "r" * (len(table.header) - table.num_names)
    begin = [r"\begin{table}", r"\centering", r"\setlength{\belowcaptionskip}{1ex}"]  # else it touches the rule
    begin += [rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}\footnotesize"]
    rules = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule"]
    return "\n".join([*begin, *rules, r"\end{tabular}", r"\end{table}", ""])


def _cell(cell: str) -> str:
    text = r"\quad " * cell.startswith("  ") + escape(cell)
    return rf"\textbf{{{text}}}" if isinstance(cell, Bold) else text


def escape(text: str) -> str:
    """The text in one line for LaTeX: all letters are text, numbers have their minus sign and power of ten."""
    plain = "".join(letter if letter.isprintable() else " " for letter in unicodedata.normalize("NFC", text))
    plain = " ".join(plain.split()).translate(str.maketrans(ESCAPES))
    plain = re.sub(r"\b(\d(?:\.\d+)?)e-0*(\d+)\b", r"\1$\\times10^{-\2}$", plain)
    plain = re.sub(r"(?<![\w{}])-(?=\d)", "$-$", plain)
    return re.sub("-(?=-)", "-{}", plain)  # "--" would be a dash
