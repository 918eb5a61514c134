r"""Fusion of modalities: every `fuse_*` and `film`, against the same in plain torch.

    python -m benchmarks.fusion --dataset ../shared/data/gowalla \
        --peers torch --out FILE.json

Forward, for the items of the dataset, with modalities of one width.  Results must be
equal before anything is timed.  Bytes are what any fusion must move: every input read
once, the result written once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command, peers, timing
from benchmarks.command import Option, Settings
from benchmarks.problems import Problem
from recjax import layers


class Fusion(NamedTuple):
    """One way to fuse.

    Attributes:
      init: from a key to parameters.
      apply: from parameters, modalities and another input ``[N, D]`` to the result.
      inputs: arrays ``[N, D]`` that it reads.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[[Any, dict[str, jax.Array], jax.Array], jax.Array]
    inputs: int


def fusions(names: Sequence[str], width: int) -> dict[str, Fusion]:
    """All of them, by name.

    Args:
      names: of the modalities.
      width: D of the modalities, of hidden layers and of the result.

    Returns:
      The fusions.
    """
    widths, num = dict.fromkeys(names, width), len(names)
    experts = {"hidden": width, "num_shared": 2, "num_specific": 1}
    return {
        "fuse_sum": Fusion(lambda k: {}, lambda p, m, x: layers.fuse_sum(m), num),
        "fuse_mean": Fusion(lambda k: {}, lambda p, m, x: layers.fuse_mean(m), num),
        "fuse_concat": Fusion(
            lambda k: layers.init_fuse_concat(k, widths, width),
            lambda p, m, x: layers.fuse_concat(p, m),
            num,
        ),
        "fuse_gated": Fusion(
            lambda k: layers.init_fuse_gated(k, widths, width),
            lambda p, m, x: layers.fuse_gated(p, m),
            num,
        ),
        "fuse_attention": Fusion(
            lambda k: layers.init_fuse_attention(k, width, width),
            lambda p, m, x: layers.fuse_attention(p, m),
            num,
        ),
        "fuse_common": Fusion(
            lambda k: layers.init_fuse_common(k, names, width, width),
            lambda p, m, x: layers.fuse_common(p, m, x),
            num + 1,
        ),
        "fuse_experts": Fusion(
            lambda k: layers.init_fuse_experts(k, widths, width, **experts),
            lambda p, m, x: layers.fuse_experts(p, m),
            num,
        ),
        "fuse_bilinear": Fusion(
            lambda k: layers.init_fuse_bilinear(k, widths, width, rank=width),
            lambda p, m, x: layers.fuse_bilinear(p, m),
            num,
        ),
        "film": Fusion(
            lambda k: layers.init_film(k, width, width),
            lambda p, m, x: layers.film(p, m[names[0]], x),
            2,
        ),
    }


def measure(problem: Problem, settings: Settings, *, modalities: int = 3) -> dict:
    """Times the fusions.

    Args:
      problem: its items are N.
      settings: of the run.
      modalities: M.

    Returns:
      The results, see `benchmarks.command.results`.

    Raises:
      ValueError: a peer is unknown, or gives other values.
    """
    if modalities < 1:
        raise ValueError(f"modalities {modalities} must be at least 1")
    others = peers.find("fusion", settings.peers)
    num, width, dtype = problem.spec.num_items, settings.dim, settings.dtype
    rng = np.random.default_rng(0)
    *values, content = rng.normal(size=(modalities + 1, num, width)).astype(np.float32)
    given = {f"modality {index}": array for index, array in enumerate(values)}
    parts = {name: jnp.asarray(array, dtype) for name, array in given.items()}
    x = jnp.asarray(content, dtype)
    rows = []
    for kind, fusion in fusions(sorted(given), width).items():
        params = fusion.init(jax.random.key(0))
        params = jax.tree.map(lambda w: w.astype(dtype), params)
        apply = jax.jit(fusion.apply)
        cases = {kind: lambda f=apply, p=params: f(p, parts, x)}
        host = jax.tree.map(lambda w: np.array(w, np.float32), params)
        for name, peer in others.items():
            cases[f"{kind}, {name}"] = peer(kind, host, given, content, dtype)
        rows += timing.rows(
            "fusion",
            timing.interleave(
                cases, repeats=settings.repeats, rtol=10 * timing.RTOL[dtype]
            ),
            work={"nodes": num},
            moved=(fusion.inputs + 1) * num * width * x.dtype.itemsize,
            copy=settings.copy,
        )
    return command.results(
        "fusion",
        settings,
        rows,
        {"modalities": modalities},
        problem=problem.describe(),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    own = (Option("modalities", 3, "modalities to fuse"),)
    command.run(measure, __doc__, argv, own=own)


if __name__ == "__main__":
    main()
