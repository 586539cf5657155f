"""docs/compatibility.md is a table that can be relied on: its form, and the flags that are refused."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/compatibility.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("| | |", "|---"))
]


def test_every_row_says_where_we_stand():
    assert [row for row in ROWS if len(row) != 3 or not row[0]] == []
    assert {state for _, state, _ in ROWS} == {"same", "better", "in part", "not yet"}
    # What is missing of a part has to be said.
    assert [name for name, state, note in ROWS if state == "in part" and not note] == []


def test_flags_that_are_refused_are_named():
    flags = (ROOT / "cli/src/flags.rs").read_text()
    refused = re.search(r"const NOT_YET: &\[&str\] =\s*&\[(.*?)\];", flags, re.DOTALL).group(1)
    names = re.findall(r'"([\w-]+)"', refused)
    notes = " ".join(note for _, _, note in ROWS)
    assert names and [name for name in names if "`--%s`" % name not in notes] == []
