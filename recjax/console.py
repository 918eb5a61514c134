"""Tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any


def text_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first to the left, the others to the right.

    Args:
      heading: names of the columns.
      rows: cells.

    Returns:
      Lines; nothing where there are no rows.

    Examples:
      >>> print(text_table(["model", "recall"], [["mf", "0.1"], ["popular", "0.05"]]))
      model    recall
      mf          0.1
      popular    0.05
    """
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
        )
        for row in (heading, *rows)
    )


def models_table(
    scores: Mapping[str, Mapping[str, float]], metrics: Sequence[str]
) -> str:
    """Models as rows, metrics as columns.

    Args:
      scores: metrics by model.
      metrics: names of the columns.

    Returns:
      The table.

    Examples:
      >>> print(models_table({"mf": {"ndcg@20": 0.1}}, ["ndcg@20"]))
      model  ndcg@20
      mf      0.1000
    """
    rows = [
        [model, *(number(name, values[name]) for name in metrics)]
        for model, values in scores.items()
    ]
    return text_table(["model", *metrics], rows)


def metrics_table(scores: Mapping[str, float]) -> str:
    """Metrics as rows, cutoffs as columns.

    Args:
      scores: values by names such as ``"recall@20"``.

    Returns:
      The table; a metric without cutoff stands in the first column.

    Examples:
      >>> print(metrics_table({"recall@10": 0.1, "recall@20": 0.2, "auc": 0.9}))
      metric    @10     @20
      recall  0.1000  0.2000
      auc     0.9000
    """
    cutoffs = list(dict.fromkeys(name.partition("@")[2] for name in scores))
    cutoffs = [k for k in cutoffs if k] or [""]
    found: dict[str, list[str]] = {}
    for name, value in scores.items():
        metric, _, k = name.partition("@")
        cells = found.setdefault(metric, [""] * len(cutoffs))
        cells[cutoffs.index(k) if k else 0] = number(name, value)
    heading = ["metric", *(f"@{k}" if k else "" for k in cutoffs)]
    table = text_table(heading, [[metric, *cells] for metric, cells in found.items()])
    return "\n".join(line.rstrip() for line in table.splitlines())


def number(name: str, value: float) -> str:
    """A metric as people write it: counts with one digit, the rest with four."""
    return f"{value:.1f}" if name.startswith("average_popularity") else f"{value:.4f}"


def recommendation_table(
    user: str, history: Sequence[str], listed: Sequence[Mapping[str, Any]]
) -> str:
    """A user's history beside the recommended items.

    Args:
      user: the user's id.
      history: titles of known items.
      listed: dicts with ``title`` and ``score``, best first.

    Returns:
      Lines; a long history is cut to the length of the list (ten at least).

    Examples:
      >>> print(recommendation_table("7", ["Alien"], [{"title": "Up", "score": 0.9}]))
      user 7
      history (1)  |  recommended  score
      Alien        |  Up           0.9000
    """
    shown = max(len(listed), 10)
    left = [_cut(title) for title in history[:shown]]
    if len(history) > shown:
        left[-1] = f"... and {len(history) - shown + 1} more"
    rows = [(f"history ({len(history)})", "recommended", "score")]
    for n in range(max(len(left), len(listed))):
        known = left[n] if n < len(left) else ""
        title, score = "", ""
        if n < len(listed):
            title, score = _cut(listed[n]["title"]), f"{listed[n]['score']:.4f}"
        rows.append((known, title, score))
    first, second, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"user {user}"]
    for known, title, score in rows:
        lines.append(f"{known:<{first}}  |  {title:<{second}}  {score}".rstrip())
    return "\n".join(lines)


def explanation_table(
    favours: Mapping[str, float], listed: Sequence[Mapping[str, Any]], most: int = 5
) -> str:
    """What a user favours, and which of it each item of a list has.

    Args:
      favours: weights of attributes, the most favoured first.
      listed: dicts with ``title`` and ``because``, names of attributes.
      most: attributes that are shown.

    Returns:
      Lines.

    Examples:
      >>> listed = [{"title": "Up", "because": ["genres=Comedy"]}]
      >>> print(explanation_table({"genres=Comedy": 0.25}, listed))
      favours  genres=Comedy 0.250
      Up       genres=Comedy
    """
    shown = [f"{_cut(name)} {weight:.3f}" for name, weight in favours.items()][:most]
    rows = [("favours", ", ".join(shown) or "nothing more than others do")]
    rows += [
        (_cut(entry["title"]), ", ".join(map(_cut, entry["because"])) or "-")
        for entry in listed
    ]
    width = max(len(first) for first, _ in rows)
    return "\n".join(f"{first:<{width}}  {second}" for first, second in rows)


def _cut(title: str, width: int = 38) -> str:
    title = " ".join(title.split())
    return title if len(title) <= width else title[: width - 3] + "..."
