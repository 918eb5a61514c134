"""Other libraries doing the same work; each is imported only when it is asked for."""

import difflib
import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Peer(NamedTuple):
    """Where a peer is found.

    Attributes:
      module: in this package.
      parts: the benchmarks that it has a function for, of the same name.
      options: keywords of that function.
    """

    module: str
    parts: tuple[str, ...]
    options: dict[str, Any] = {}  # noqa: RUF012 - never mutated


PEERS = {
    "torch": Peer("torch_dense", ("attention", "fusion")),
    "torch-csr": Peer("torch_sparse", ("propagate", "train_step"), {"layout": "csr"}),
    "torch-coo": Peer("torch_sparse", ("propagate", "train_step"), {"layout": "coo"}),
    "pyg": Peer(
        "pyg", ("propagate", "train_step", "attention", "layer", "light_gcn_nodes")
    ),
    "recbole": Peer("recbole", ("evaluate",)),
    "sentence-transformers": Peer("sentence_transformers", ("encode",)),
}
"""Names that ``--peers`` takes."""


def check(names: Sequence[str]) -> None:
    """Refuses names that are not in `PEERS`.

    Args:
      names: of peers.

    Raises:
      ValueError: there is no such peer.
    """
    for name in names:
        if name not in PEERS:
            near = difflib.get_close_matches(name, PEERS, n=1)
            hint = f", perhaps {near[0]}?" if near else ":"
            raise ValueError(
                f"unknown peer {name!r}{hint} there are {', '.join(PEERS)}"
            )


def find(part: str, names: Sequence[str]) -> dict[str, Callable[..., Any]]:
    """The functions by which peers take part in a benchmark.

    Args:
      part: the benchmark.
      names: of peers; those that have no part in it are named on stderr and left out.

    Returns:
      One function a peer, by its name.

    Raises:
      ValueError: there is no such peer, or it is not installed.
    """
    check(names)
    found: dict[str, Callable[..., Any]] = {}
    for name in names:
        peer = PEERS[name]
        if part not in peer.parts:
            print(f"{name} has no part in {part}: left out", file=sys.stderr)
            continue
        try:
            module = importlib.import_module(f"benchmarks.peers.{peer.module}")
        except ImportError as error:
            raise ValueError(
                f"the peer {name} cannot be imported ({error}): pip install "
                "'recjax[bench]'"
            ) from None
        found[name] = functools.partial(getattr(module, part), **peer.options)
    return found
