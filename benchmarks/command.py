"""What the benchmarks share on the command line: options, errors, results."""

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks import limits, peers, problems, render, timing
from recjax.run_folder import environment

_QUIET = 0.2
# Seen with RecBole on two cores: 0.6 s for what took 23 s beside another process.
_WHY_QUIET = (
    "times will not be comparable: threads of torch that wait for each other lose far "
    "more to other work than ours do"
)
_LIBRARIES = ("torch", "torch_geometric", "recbole", "sentence_transformers")


class Settings(NamedTuple):
    """What every benchmark takes.

    Attributes:
      dim: D, width of the vectors.
      dtype: of the vectors.
      peers: names, see `benchmarks.peers.PEERS`.
      repeats: rounds of timing.
      copy: bytes that the machine copies a second; None leaves shares of it out.
    """

    dim: int = 64
    dtype: str = "float32"
    peers: tuple[str, ...] = ()
    repeats: int = 7
    copy: float | None = None


class Option(NamedTuple):
    """An option of one benchmark alone.

    Attributes:
      name: of the keyword; ``batch_size`` is ``--batch-size``.
      default: a number.
      help: what it is.
    """

    name: str
    default: float
    help: str


def run(
    measure: Callable[..., dict],
    doc: str | None,
    argv: Sequence[str] | None,
    *,
    own: Sequence[Option] = (),
    repeats: int = 7,
    on_dataset: bool = True,
) -> dict:
    """Reads options, measures, prints a table, and writes JSON where asked.

    Args:
      measure: from a problem (where there is a dataset), `Settings` and the keywords
        of the benchmark's own options, to the results.
      doc: of the module; shown by ``--help``.
      argv: options; None for those of the process.
      own: the benchmark's own options.
      repeats: default number of rounds.
      on_dataset: whether there is a dataset.

    Returns:
      The results.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if on_dataset:
        parser.add_argument(
            "--dataset",
            required=True,
            metavar="PATH|synthetic:NODESxEDGES",
            help="what recjax data list names, or random pairs of that size",
        )
    parser.add_argument("--dim", type=int, default=64, help="width of the vectors")
    parser.add_argument("--dtype", choices=list(timing.RTOL), default="float32")
    parser.add_argument(
        "--peers",
        default="",
        metavar="NAME,...",
        help=f"any of {','.join(peers.PEERS)}; needs pip install 'recjax[bench]'",
    )
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds of timing")
    for name, default, text in own:
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            help=f"{text} ({default})",
        )
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args(argv)
    extra = {name: getattr(options, name) for name, *_ in own}
    names = tuple(filter(None, options.peers.split(",")))
    # Torch multiplies float32 as such; JAX would in a shorter type on accelerators.
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        peers.check(names)
        first = (problems.load(options.dataset),) if on_dataset else ()
        busy = limits.busy_cores()
        if busy is not None and busy > _QUIET:
            print(f"warning: {busy:.1f} cores are busy; {_WHY_QUIET}", file=sys.stderr)
        settings = Settings(
            options.dim, options.dtype, names, options.repeats, limits.copy_bandwidth()
        )
        found = measure(*first, settings, **extra) | {"busy_cores_at_start": busy}
    except (ValueError, NotImplementedError) as error:  # the latter of torch
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(render.section(found))
    if options.out:
        write(options.out, found)
    return found


def results(
    benchmark: str,
    settings: Settings,
    rows: list[dict],
    own: dict[str, Any] | None = None,
    **more: Any,
) -> dict:
    """The results of a benchmark, with all that is needed to read them.

    Args:
      benchmark: its name.
      settings: of the run.
      rows: see `benchmarks.timing.rows`.
      own: the benchmark's own settings.
      **more: anything else.

    Returns:
      A dict for JSON.
    """
    used = {name: getattr(settings, name) for name in ("dim", "dtype", "repeats")}
    used |= own or {}
    found: dict[str, Any] = {
        "benchmark": benchmark,
        **more,
        "settings": used,
        "rows": rows,
    }
    if settings.copy is not None:
        found["copy_bytes_per_second"] = settings.copy
    found |= {"host": limits.host(), **environment()}
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        found["peak_device_memory_bytes"] = stats["peak_bytes_in_use"]
    # Only what peers brought in: a library that lies unused says nothing.
    for name in _LIBRARIES:
        if settings.peers and name in sys.modules:
            found["versions"][name] = importlib.metadata.version(name)
    return found


def write(path: Path, found: dict) -> None:
    """Writes the results as JSON, making folders as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")
