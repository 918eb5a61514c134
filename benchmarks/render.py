"""A page from the results of benchmarks: Markdown tables, and a plot of each.

    python -m benchmarks.render benchmarks/results

Reads every ``*.json`` in the folder and writes ``README.md`` and ``NAME.png`` beside
them.  The page holds nothing that is not in the JSON.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def _seconds(value: float) -> str:
    unit, scale = ("s", 1.0) if value >= 1 else ("ms", 1e3)
    if value < 1e-3:
        unit, scale = "µs", 1e6
    number = value * scale
    return f"{number:,.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"


def _spread(quartiles: list[float]) -> str:
    return f"{_seconds(quartiles[0])} to {_seconds(quartiles[1])}"


def _count(value: float) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g}"


def _bytes(value: float) -> str:
    return f"{value / 2**20:,.0f} MiB"


_SHOWN = ("recjax", "jax", "torch", "torch_geometric", "recbole")

_HEAD = """# Benchmarks

Written by `python -m benchmarks.render`; do not edit. Seconds are medians over
interleaved rounds, with quartiles. `x ours` is the median over rounds of the ratio to
the first row, `of copy` the share of the bandwidth at which the machine copies memory
(above 100 % where rows are found in a cache), `memory` the growth of the process at the
peak of a call.
"""

# A column is shown where some row of the group has the key.
_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("name", "", str),
    ("seconds", "median", _seconds),
    ("quartiles", "quartiles", _spread),
    ("over_ours", "x ours", lambda x: f"{x:.2f}"),
    ("edges_per_second", "edges/s", _count),
    ("interactions_per_second", "interactions/s", _count),
    ("users_per_second", "users/s", _count),
    ("nodes_per_second", "nodes/s", _count),
    ("rows_per_second", "rows/s", _count),
    ("bytes_per_second", "GB/s", lambda x: f"{x / 1e9:.3g}"),
    ("share_of_copy", "of copy", lambda x: f"{100 * x:.0f} %"),
    ("memory_bytes", "memory", _bytes),
    ("first_call_seconds", "first call", _seconds),
    ("compile_seconds", "compiling", _seconds),
)


def table(rows: list[dict]) -> str:
    """One Markdown table.

    Args:
      rows: of one group, see `benchmarks.timing.rows`.

    Returns:
      The lines.
    """
    columns = [column for column in _COLUMNS if any(column[0] in row for row in rows)]
    lines = [[title for _, title, _ in columns]]
    for row in rows:
        lines.append([form(row[key]) if key in row else "" for key, _, form in columns])
    return align(lines)


def align(lines: list[list[str]]) -> str:
    """A Markdown table of cells: the first column to the left, the others right.

    Args:
      lines: cells of each line, the titles first.

    Returns:
      The lines.
    """
    lines = list(lines)
    widths = [max(3, *map(len, cells)) for cells in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (n - 1) + ":" for n in widths[1:])])
    return "\n".join(
        "| "
        + " | ".join(
            [cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]
        )
        + " |"
        for cells in lines
    )


def section(found: dict) -> str:
    """The results of one benchmark as Markdown.

    Args:
      found: see `benchmarks.command.results`.

    Returns:
      A heading, what ran where, and one table a group.
    """
    problem = dict(found.get("problem", {}))
    name = problem.pop("name", None)
    title = f"{found['benchmark']}: {name}" if name else found["benchmark"]
    facts = [f"{count:,} {what}" for what, count in problem.items()]
    facts += [f"{what} {value}" for what, value in found.get("settings", {}).items()]
    lines = [f"## {title}", "", f"{', '.join(facts)}.", "", _where(found)]
    tables = list(groups(found["rows"]))
    for group, rows in tables:
        lines += ["", f"### {group}"] if len(tables) > 1 else []
        lines += ["", table(rows)]
        if group in found.get("slopes", {}):
            slope, over = found["slopes"][group], found.get("over", group)
            lines += [
                "",
                f"Slope of log seconds over log {over}: {slope['all']:.2f} over all "
                f"points, {slope['last']:.2f} between the last two.",
            ]
    for note in found.get("notes", ()):
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _where(found: dict) -> str:
    """What ran the benchmark, in a line."""
    versions = ", ".join(
        f"{name} {version}"
        for name, version in found["versions"].items()
        if name in _SHOWN
    )
    parts = [
        f"Device {found['device']} ({found['host']})",
        versions,
        f"peak memory of the process {_bytes(found['peak_memory_bytes'])}",
    ]
    if "peak_device_memory_bytes" in found:
        parts.append(f"of the device {_bytes(found['peak_device_memory_bytes'])}")
    if "copy_bytes_per_second" in found:
        parts.append(f"copies {found['copy_bytes_per_second'] / 1e9:.1f} GB/s")
    if found.get("busy_cores_at_start") is not None:
        parts.append(f"{found['busy_cores_at_start']:.1f} cores busy before the start")
    return "; ".join(parts) + "."


def groups(rows: list[dict]) -> Iterable[tuple[str, list[dict]]]:
    """Rows by group, in the order in which groups first appear."""
    for group in dict.fromkeys(row["group"] for row in rows):
        yield group, [row for row in rows if row["group"] == group]


def plot(found: dict, path: Path) -> None:
    """One PNG of a benchmark: bars with quartiles, or lines where there are slopes.

    Args:
      found: see `benchmarks.command.results`.
      path: the file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # A bar alone compares nothing.
    parts = list(groups(found["rows"]))
    parts = [part for part in parts if len(part[1]) > 1] or parts
    grows = "slopes" in found
    height = 3.4 if grows else 1.4 + 0.22 * max(len(rows) for _, rows in parts)
    figure, axes = pyplot.subplots(
        1, len(parts), figsize=(3.6 * len(parts) + 1, height), squeeze=False
    )
    for axis, (group, rows) in zip(axes[0], parts, strict=True):
        if grows:
            _line(axis, rows)
            axis.set_xlabel(found.get("over", group))
            title = f"{group}\n" if "over" in found else ""
            if group in found["slopes"]:
                axis.set_title(f"{title}slope {found['slopes'][group]['all']:.2f}")
        else:
            _bars(axis, rows)
            axis.set_title(group)
    axes[0][0].set_ylabel("seconds" if grows else "")
    if grows:
        # One scale: what hardly grows is to look flat.
        seconds = [row["seconds"] for _, rows in parts for row in rows]
        for axis in axes[0]:
            axis.set_ylim(min(seconds) / 1.5, max(seconds) * 1.5)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _line(axis: Any, rows: list[dict]) -> None:
    x = [row["x"] for row in rows]
    axis.loglog(x, [row["seconds"] for row in rows], "o-")
    axis.set_xticks(x, [_count(value) for value in x])
    y = [rows[0]["seconds"], rows[-1]["seconds"]]
    axis.set_yticks(y, [_seconds(value) for value in y])
    axis.minorticks_off()


def _bars(axis: Any, rows: list[dict]) -> None:
    """Medians with quartiles, ours in a colour of its own."""
    seconds = [row["seconds"] for row in rows]
    spread = [row.get("quartiles", [row["seconds"]] * 2) for row in rows]
    error = [
        [max(s - low, 0.0) for s, (low, _) in zip(seconds, spread, strict=True)],
        [max(high - s, 0.0) for s, (_, high) in zip(seconds, spread, strict=True)],
    ]
    colours = ["C0" if row.get("is_ours") else "0.7" for row in rows]
    bars = axis.barh([row["name"] for row in rows], seconds, xerr=error, color=colours)
    axis.bar_label(bars, [_seconds(value) for value in seconds], padding=4)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.4 * max(high for _, high in spread))
    axis.set_xlabel("seconds")


def page(folder: Path, *, plots: bool = True) -> Path:
    """Writes the page of a folder.

    Args:
      folder: with the JSON files.
      plots: whether to draw them; needs matplotlib.

    Returns:
      Its ``README.md``.

    Raises:
      ValueError: there are no results.
    """
    parts = []
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        if "rows" not in found or "benchmark" not in found:
            print(f"{path} holds no table: left out", file=sys.stderr)
            continue
        text = section(found)
        if plots:
            plot(found, path.with_suffix(".png"))
            text += f"\n![{path.stem}]({path.stem}.png)\n"
        parts.append(text)
    if not parts:
        raise ValueError(f"{folder}: no results there; run the benchmarks with --out")
    path = folder / "README.md"
    path.write_text(_HEAD + "\n" + "\n".join(parts))
    return path


def main(argv: list[str] | None = None) -> None:
    """Reads options and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with the JSON files")
    parser.add_argument("--no-plots", action="store_true", help="tables only")
    options = parser.parse_args(argv)
    try:
        print(page(options.folder, plots=not options.no_plots))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
