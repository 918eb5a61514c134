"""Tables of experiments as Markdown: nothing in them is typed.

    python -m experiments.report experiments/results/*.json
    python -m experiments.report FILE.json --into README.md

Prints what the files hold, or writes it between the marks of each file in a page,
``<!-- results NAME -->`` and ``<!-- end of NAME -->`` for ``NAME.json``, in place of
what is there.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.render import align

_ON_TEST = (
    "† The epoch that is best on test: no result, but what papers report that choose "
    "their epoch so."
)

_CLAIM = (
    "p is that of {row} being better by {metric} (paired bootstrap over users, one "
    "tail, corrected by Holm for all rows compared)."
)

_RETRAINED = (
    "Trained on train and valid: to be compared with published figures only where the "
    "papers train on both."
)


def _figure(value: float) -> str:
    text = f"{value:.4f}"
    return text[1:] if text.startswith("0.") else text


def _chance(p_value: float) -> str:
    return "<.001" if p_value < 0.001 else f"{p_value:.3f}".lstrip("0")


def _measured(row: Mapping[str, Any], metric: str) -> str:
    if metric not in row["mean"]:
        return ""
    text = _figure(row["mean"][metric])
    if metric in row["sd"]:
        text += f" ± {_figure(row['sd'][metric])}"
    return text


def table(found: Mapping[str, Any]) -> str:
    """The rows of a file as one Markdown table.

    Args:
      found: what an experiment wrote.

    Returns:
      The lines; a column stands where some row has it.
    """
    rows, shown = found["rows"], found["shown"]
    columns = [("", list(rows))]

    def add(title: str, cells: Sequence[str]) -> None:
        if any(cells):
            columns.append((title, list(cells)))

    def part(key: str, metric: str) -> list[str]:
        parts = [row.get(key) or {} for row in rows.values()]
        return [_figure(x[metric]) if metric in x else "" for x in parts]

    for metric in shown:
        add(metric, [_measured(row, metric) for row in rows.values()])
        add("s.e.", part("standard_error", metric))
    for metric in shown:
        add(f"{metric} †", part("best_on_test", metric))
    for metric in shown:
        add(f"{metric} published", part("published", metric))
    against = (found.get("comparison") or {}).get("against", {})
    add("p", [_chance(against[row]["holm"]) if row in against else "" for row in rows])
    add("seeds", [str(len(row["runs"])) for row in rows.values()])
    add("s a seed", [f"{row['seconds_a_seed']:,.1f}" for row in rows.values()])
    add("tried", [str(row["settings_tried"] or "") for row in rows.values()])
    titles = [title for title, _ in columns]
    cells = zip(*(cells for _, cells in columns), strict=True)
    return align([titles, *map(list, cells)])


def section(found: Mapping[str, Any]) -> str:
    """A table and all that is needed to read it.

    Args:
      found: what an experiment wrote.

    Returns:
      Markdown.
    """
    data, rows = found["dataset"], found["rows"]
    if not rows:
        return f"{found['experiment']}: no row yet.\n"
    lines = [
        f"{data['name']}: {data['users']:,} users, {data['items']:,} items, "
        f"{data['train']:,} training and {data['valid']:,} validation rows (split "
        f"{data['split_hash'][:12]}). Test, {found['protocol']}. Mean ± standard "
        "deviation over seeds; s.e. is the standard error over users; tried are the "
        "settings that were compared on valid.",
        "",
        table(found),
    ]
    comparison = found.get("comparison")
    if comparison and comparison["against"]:
        lines += ["", _CLAIM.format(**comparison)]
    if any("best_on_test" in row for row in rows.values()):
        lines += ["", _ON_TEST]
    if found.get("retrained") and any(row["published"] for row in rows.values()):
        lines += ["", _RETRAINED]
    for name, row in rows.items():
        if row.get("curve"):
            lines += ["", _curve(name, row, found["shown"][0])]
    notes = [f"- {name}: {row['note']}" for name, row in rows.items() if row["note"]]
    if notes:
        lines += ["", *notes]
    lines += ["", *_machines(rows)]
    return "\n".join(lines) + "\n"


def _curve(name: str, row: Mapping[str, Any], metric: str) -> str:
    """What training had reached by epochs of which a paper tells."""
    points = [
        f"{_figure(row['curve'][epoch])} at {epoch} (published {_figure(value)})"
        for epoch, value in row["published_curve"].items()
        if epoch in row["curve"]
    ]
    return f"{name}, {metric} on test by epoch: {', '.join(points)}."


def _machines(rows: Mapping[str, Any]) -> list[str]:
    """What ran which rows, and when."""
    groups: dict[str, list[str]] = {}
    for name, row in rows.items():
        text = (
            f"{row['device']} ({row['host']}), jax {row['versions']['jax']}, recjax "
            f"{row['versions']['recjax']}, {row['date']}"
        )
        groups.setdefault(text, []).append(name)
    if len(groups) == 1:
        return [f"Run on {text}." for text in groups]
    # Names have commas.
    return [f"Run on {text}: {'; '.join(names)}." for text, names in groups.items()]


def read(path: Path) -> dict[str, Any]:
    """A file of results.

    Args:
      path: the JSON file.

    Returns:
      What it holds.

    Raises:
      ValueError: it holds no table.
    """
    found = json.loads(path.read_text())
    missing = {"experiment", "dataset", "protocol", "rows", "shown"} - set(found)
    if missing:
        raise ValueError(f"{path} holds no table: it has no {sorted(missing)}")
    return found


def into(page: str, name: str, text: str) -> str:
    r"""A page with the text between the marks of a name.

    Args:
      page: its text.
      name: see the module.
      text: to stand there.

    Returns:
      The page.

    Raises:
      ValueError: the marks are not there once each, in order.

    Examples:
      >>> into("<!-- results a -->\nold\n<!-- end of a -->", "a", "new\n")
      '<!-- results a -->\n\nnew\n\n<!-- end of a -->'
    """
    begin, end = f"<!-- results {name} -->", f"<!-- end of {name} -->"
    counts = page.count(begin), page.count(end)
    if counts != (1, 1) or page.index(begin) > page.index(end):
        raise ValueError(f"the page needs the lines {begin} and {end}, once each")
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options; prints, or writes into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="a Markdown file")
    options = parser.parse_args(argv)
    try:
        texts = {path.stem: section(read(path)) for path in options.files}
        if options.into is None:
            print("\n".join(texts.values()), end="")
            return
        page = options.into.read_text()
        for name, text in texts.items():
            page = into(page, name, text)
        options.into.write_text(page)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
