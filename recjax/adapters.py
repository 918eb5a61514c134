"""Small changes of a large model's weights: adapters of low rank, and partial freezing.

All of it works on any nested dict of arrays, by the paths of its leaves joined by
dots, such as ``layers.query.kernel``.  A pattern is matched against the whole path as
by `fnmatch`, ``*`` for any text, dots included.

What is learned is kept apart from the weights that it changes: an adapter, or a
difference, is a dict of its own that starts with no effect, and is all that an
optimizer sees.  `train_only` is for those who give it all weights.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from recjax.types import Params

_Path = tuple[str, ...]


def matching(params: Params, patterns: Sequence[str]) -> list[str]:
    """Paths of the leaves that any of the patterns fits.

    Args:
      params: a nested dict.
      patterns: of paths.

    Returns:
      Paths, in the order of the dict.

    Raises:
      ValueError: a pattern fits no leaf.

    Examples:
      >>> params = {"layers": {"query": {"kernel": 1, "bias": 2}}, "words": 3}
      >>> matching(params, ["*.kernel", "words"])
      ['layers.query.kernel', 'words']
    """
    paths = [".".join(path) for path in _flat(params)]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            some = ", ".join(paths[:20])
            raise ValueError(f"no parameter is called {pattern!r}; there are {some}")
    return [p for p in paths if any(fnmatchcase(p, pattern) for pattern in patterns)]


def init_lora(
    key: jax.Array, params: Params, *, rank: int, targets: Sequence[str]
) -> Params:
    """Adapters of low rank for some kernels; merged, they change nothing at first.

    Args:
      key: a PRNG key.
      params: the weights, or their shapes (`jax.eval_shape`).
      rank: r.
      targets: patterns of the kernels ``[..., in, out]``; leading axes are those of
        stacked layers, each of which gets its own adapter.

    Returns:
      ``{"a": [..., in, r], "b": [..., r, out]}`` at the place of each kernel, float32;
      a from N(0, 1 / in), b is 0.

    Raises:
      ValueError: the rank is not positive, a pattern fits nothing, or what it fits is
        no kernel.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> params = {"query": {"kernel": jnp.ones((6, 4, 3)), "bias": jnp.ones((6, 3))}}
      >>> lora = init_lora(jax.random.key(0), params, rank=2, targets=["*kernel"])
      >>> jax.tree.map(jnp.shape, lora)
      {'query': {'kernel': {'a': (6, 4, 2), 'b': (6, 2, 3)}}}

    References:
      Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022,
      equation 3.
    """
    if rank < 1:
        raise ValueError(f"rank {rank} must be at least 1")
    flat = _flat(params)
    lora: dict[_Path, jax.Array] = {}
    for number, name in enumerate(matching(params, targets)):
        path = tuple(name.split("."))
        shape = flat[path].shape
        if len(shape) < 2:
            raise ValueError(
                f"{name} {shape} is no kernel [..., in, out]: leave it out"
            )
        *stacked, width_in, width_out = shape
        a = jax.random.normal(
            jax.random.fold_in(key, number), (*stacked, width_in, rank)
        )
        lora[*path, "a"] = a * width_in**-0.5
        lora[*path, "b"] = jnp.zeros((*stacked, rank, width_out))
    return unflatten_dict(lora)


def merge_lora(params: Params, lora: Params, *, scale: float = 1.0) -> Params:
    """The weights with their adapters, ``W + scale A B``.

    Args:
      params: the weights.
      lora: from `init_lora`.
      scale: of the product; the paper's alpha / r.

    Returns:
      Weights in the form and the types of ``params``.

    Raises:
      ValueError: an adapter is for a weight that is not there, or of another shape.

    Examples:
      >>> import jax.numpy as jnp
      >>> lora = {"kernel": {"a": jnp.array([[2.0]]), "b": jnp.array([[3.0]])}}
      >>> merge_lora({"kernel": jnp.array([[1.0]])}, lora, scale=0.5)["kernel"].tolist()
      [[4.0]]
    """
    factors = _flat(lora)
    changes = {
        path[:-1]: scale * (a @ factors[*path[:-1], "b"])
        for path, a in factors.items()
        if path[-1] == "a"
    }
    return _add(params, changes)


def init_delta(params: Params, targets: Sequence[str]) -> Params:
    """Differences, 0 at first, of the weights that are to be trained in full.

    Args:
      params: the weights, or their shapes.
      targets: patterns of those that are not frozen; none for an empty dict.

    Returns:
      The part of ``params`` that they fit, 0, float32.

    Raises:
      ValueError: a pattern fits nothing.

    Examples:
      >>> import jax.numpy as jnp
      >>> init_delta({"words": jnp.ones(2), "norm": jnp.ones(1)}, ["norm"])
      {'norm': Array([0.], dtype=float32)}
    """
    flat = _flat(params)
    paths = [tuple(name.split(".")) for name in matching(params, targets)]
    return unflatten_dict({path: jnp.zeros(flat[path].shape) for path in paths})


def add_delta(params: Params, delta: Params) -> Params:
    """The weights with the differences of `init_delta`, in the types of the weights.

    Args:
      params: the weights.
      delta: of some of them.

    Returns:
      Weights in the form of ``params``.

    Raises:
      ValueError: a difference is for a weight that is not there, or of another shape.

    Examples:
      >>> add_delta({"norm": jnp.ones(1), "words": 3}, {"norm": jnp.ones(1)})
      {'norm': Array([2.], dtype=float32), 'words': 3}
    """
    return _add(params, _flat(delta))


def path_mask(params: Params, patterns: Sequence[str]) -> Any:
    """True at the leaves that any of the patterns fits, False elsewhere.

    Args:
      params: a nested dict.
      patterns: of paths.

    Returns:
      A tree like ``params``, as `optax.masked` takes it.

    Raises:
      ValueError: a pattern fits nothing.

    Examples:
      >>> path_mask({"words": 1, "norm": {"scale": 2}}, ["norm.*"])
      {'norm': {'scale': True}, 'words': False}
    """
    chosen = set(matching(params, patterns))
    flat = {path: ".".join(path) in chosen for path in sorted(_flat(params))}
    return unflatten_dict(flat)


def train_only(
    optimizer: optax.GradientTransformation, patterns: Sequence[str]
) -> optax.GradientTransformation:
    """An optimizer for some weights; the others stay, and it holds no state for them.

    (`optax.masked` alone would hand on the gradients of the others as their updates.)

    Args:
      optimizer: from optax.
      patterns: of the weights that are trained.

    Returns:
      The optimizer for the whole dict.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"words": jnp.ones(1), "norm": jnp.ones(1)}
      >>> sgd = train_only(optax.sgd(1.0), ["norm"])
      >>> updates, _ = sgd.update(params, sgd.init(params), params)
      >>> updates["words"].item(), updates["norm"].item()
      (0.0, -1.0)
    """

    def label(params):
        mask = path_mask(params, patterns)
        return jax.tree.map(lambda one: "trained" if one else "frozen", mask)

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, label)


def _flat(params: Params) -> dict[_Path, Any]:
    return dict(flatten_dict(params))


def _add(params: Params, changes: dict[_Path, jax.Array]) -> Params:
    flat = _flat(params)
    for path, change in changes.items():
        name = ".".join(path)
        if path not in flat:
            raise ValueError(
                f"there is no weight {name} to change: the change is of another model"
            )
        if flat[path].shape != change.shape:
            raise ValueError(
                f"{name} {flat[path].shape} and its change {change.shape} differ: they "
                "are not of the same model"
            )
        # The sum in the wider type: small changes of a bfloat16 weight would be lost.
        flat[path] = (flat[path] + change).astype(flat[path].dtype)
    return unflatten_dict(flat)
