"""A row of the table, and what can be done to the inputs of any row.

Inputs are a dictionary of arrays, or of trees of arrays.  `Case.axes` names the leading
axes of each by letters, after the legend in `recjax.types`; with that alone they can be
padded, masked, reordered, mapped and split over devices, whatever the function is.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.sparse import make_layout

Inputs = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One row.  A property that does not apply holds the reason, a string.

    Attributes:
      name: of the row.
      function: the public function.
      call: the function, of the inputs.
      make: inputs from a generator and the sizes, in float64 on the host; masks leave
        some entries out.
      sizes: length of each axis, by letter.
      axes: letters of the leading axes of each input.
      out: letters of the result, likewise.
      reference: the result in plain NumPy.
      order: axes whose order is free.
      large: inputs that are logits, or become logits.
      empty: sizes of degenerate inputs.
      points: inputs that hold rows of an axis, and the letter of that axis.
      jraph: the result by jraph, of inputs without a masked entry.
      layout: the inputs (senders, receivers) that a `Layout` may describe.
      mask: what masks entries.
      padding: how many entries to add to each axis.
      dead: inputs that may hold anything at nodes with no edge but masked ones.
      derivatives: step and tolerance of numeric derivatives in float64.
      bfloat16: tolerance, relative to the largest entry of the result.
      wide: whether the result is float32 even so.
      tolerance: in float32, relative and absolute.
    """

    name: str
    function: Callable[..., Any]
    call: Callable[[Inputs], Any]
    make: Callable[..., Inputs]
    sizes: Mapping[str, int]
    axes: Mapping[str, str]
    out: Any
    reference: Callable[[Inputs], Any]
    order: tuple[str, ...] | str
    large: tuple[str, ...] | str
    empty: tuple[Mapping[str, int], ...] | str
    points: Mapping[str, str] = dataclasses.field(default_factory=dict)
    jraph: Callable[[Inputs], Any] | str = "jraph has no such function"
    layout: tuple[str, str] | str = "it reads no graph"
    mask: "Mask | str" = "it takes no mask"
    padding: Mapping[str, int] | str = "it takes no mask"
    dead: tuple[str, ...] = ()
    derivatives: tuple[float, float] | str = (1e-6, 1e-6)
    bfloat16: float | str = 2**-6
    wide: bool = False
    tolerance: float = 1e-5

    @property
    def all_axes(self) -> Inputs:
        """Letters of all that `draw` makes."""
        return {**self.axes, "layout": "", "seed": self.out}

    @property
    def mask_name(self) -> str | None:
        """The input that masks."""
        return None if isinstance(self.mask, str) else self.mask.name

    def size(self, x: Inputs, letter: str) -> int:
        """Length of an axis of these inputs."""
        name = next(n for n, letters in self.axes.items() if letter in letters)
        return jax.tree.leaves(x[name])[0].shape[self.axes[name].index(letter)]


@dataclasses.dataclass(frozen=True)
class Mask:
    """An input that says which entries count.

    Attributes:
      name: of the input; boolean, or a weight that is 0 where an entry is masked.
      axis: letter of the entries.
      covers: inputs that may hold anything there; None for all that have the axis if
        the mask is boolean, and for none if it is a weight.
    """

    name: str
    axis: str
    covers: tuple[str, ...] | None = None

    def covered(self, case: Case, x: Inputs) -> set[str]:
        """Inputs that may hold anything where they are masked."""
        if self.covers is not None:
            return set(self.covers)
        if not is_mask(x[self.name]):
            return set()
        return {n for n, letters in case.axes.items() if self.axis in letters}

    def kept(self, case: Case, x: Inputs) -> np.ndarray:
        """Entries of the axis that count."""
        rows = np.moveaxis(x[self.name], case.axes[self.name].index(self.axis), 0)
        return np.flatnonzero(rows.reshape(len(rows), -1).any(1))

    def fill(self, case: Case, x: Inputs, held: float) -> Inputs:
        """Inputs whose masked entries hold this number, where they are covered."""
        gone = np.setdiff1d(np.arange(case.size(x, self.axis)), self.kept(case, x))

        def one(letters, leaf):
            if leaf.dtype.kind != "f":
                return leaf
            leaf = leaf.copy()
            for position, letter in enumerate(letters):
                if letter == self.axis:
                    np.moveaxis(leaf, position, 0)[gone] = held
            return leaf

        names = self.covered(case, x) - {self.name}
        return x | {n: along(one, case.axes[n], x[n]) for n in names}

    def remove(self, case: Case, x: Inputs) -> Inputs:
        """Inputs without the masked entries, and without what points at them."""
        rows = self.kept(case, x)
        place = np.full(case.size(x, self.axis), -1)
        place[rows] = np.arange(len(rows))
        x = take(self.axis, rows, case.all_axes, x)
        for name, target in case.points.items():
            if target == self.axis:
                x = x | {name: place[x[name]]}
                left = np.flatnonzero(x[name] >= 0)
                x = take(case.axes[name], left, case.all_axes, x)
        return x

    def restrict(self, case: Case, x: Inputs, results: Inputs) -> Inputs:
        """What `answer` gives for x, without the entries that are masked there."""
        return take(self.axis, self.kept(case, x), answer_axes(case, results), results)

    def hidden(self, case: Case, x: Inputs, grads: Inputs) -> Inputs:
        """Derivatives by what may hold anything: they are to be 0."""
        gone = np.setdiff1d(np.arange(case.size(x, self.axis)), self.kept(case, x))
        names = self.covered(case, x) & grads.keys()
        return {n: take(self.axis, gone, case.axes[n], grads[n]) for n in names}


def is_mask(part: Any) -> bool:
    """Whether an input holds booleans."""
    leaves = jax.tree.leaves(part)
    return bool(leaves) and all(leaf.dtype == bool for leaf in leaves)


def is_floating(part: Any) -> bool:
    """Whether an input holds numbers to derive by."""
    leaves = jax.tree.leaves(part)
    return bool(leaves) and all(jnp.issubdtype(x.dtype, jnp.floating) for x in leaves)


def along(function: Callable[[str, Any], Any], axes: Any, tree: Any) -> Any:
    """The function of letters and leaf, at every leaf of a tree."""
    return jax.tree.map(
        lambda letters, part: jax.tree.map(lambda x: function(letters, x), part),
        axes,
        tree,
    )


def take(letter: str, rows: np.ndarray, axes: Any, tree: Any) -> Any:
    """Rows of an axis, in a tree of inputs or of results."""

    def one(letters, leaf):
        for position, found in enumerate(letters):
            leaf = np.take(leaf, rows, position) if found == letter else leaf
        return leaf

    return along(one, axes, tree)


def reorder(case: Case, x: Inputs, letter: str, rows: np.ndarray) -> Inputs:
    """Inputs whose axis is in another order, row ``rows[i]`` at place i."""
    x = take(letter, rows, case.all_axes, x)
    place = np.argsort(rows)
    moved = {n: place[x[n]] for n, target in case.points.items() if target == letter}
    return x | moved


def pad(case: Case, x: Inputs, held: float) -> Inputs:
    """Inputs with more entries along the axes of `Case.padding`, none of which counts.

    They hold the given number where they may hold anything, and else 7.
    """
    for letter, more in case.padding.items():
        longer = functools.partial(_longer, case, x, letter, more, held)
        x = {
            name: along(functools.partial(longer, name), letters, x[name])
            for name, letters in case.all_axes.items()
        }
    return x


def _longer(case, x, letter, more, held, name, letters, leaf):
    covered = case.dead
    if isinstance(case.mask, Mask) and case.mask.axis == letter:
        covered = case.mask.covered(case, x)
    for position in [p for p, found in enumerate(letters) if found == letter]:
        shape = (*leaf.shape[:position], more, *leaf.shape[position + 1 :])
        rest = np.zeros(shape, leaf.dtype)
        if name in case.points:
            # Upwards from the first row and down from the last, which may be new: most
            # pairs join an old row and a new one.
            rest = np.arange(more)
            if name != next(iter(case.points)):
                rest = case.size(x, case.points[name]) - 1 - rest
        elif leaf.dtype.kind == "f" and name in covered:
            rest[:] = held
        elif leaf.dtype.kind == "f" and name not in ("seed", case.mask_name):
            rest[:] = 7
        leaf = np.concatenate([leaf, rest], position)
    return leaf


def mirror(case: Case, x: Inputs) -> Inputs:
    """Inputs whose second half of edges is the first half in reverse."""
    senders, receivers = case.layout
    half = case.size(x, case.axes[senders]) // 2
    mirrored = {
        senders: np.concatenate([x[senders][:half], x[receivers][:half]]),
        receivers: np.concatenate([x[receivers][:half], x[senders][:half]]),
    }
    if "weight" in x:
        mirrored["weight"] = np.tile(x["weight"][:half], 2)
    return x | mirrored


def lay_out(case: Case, x: Inputs, *, symmetric: bool = False) -> Inputs:
    """Inputs with edges sorted by receiver, and their layout where there are any."""
    if isinstance(case.layout, str):
        return x
    senders, receivers = case.layout
    rows = np.argsort(x[receivers], kind="stable")
    x = reorder(case, x, case.axes[receivers], rows)
    num_senders, num_receivers = (case.size(x, case.points[n]) for n in case.layout)
    layout = make_layout(
        x[senders],
        x[receivers],
        num_senders=num_senders,
        num_receivers=num_receivers,
        symmetric=symmetric,
    )
    return x | {"layout": layout}


@functools.cache
def draw(case: Case, number: int = 0, sizes: tuple[tuple[str, int], ...] = ()):
    """Inputs, with a seed for their derivatives: an array for each of the result."""
    rng = np.random.default_rng(number)
    lengths = {**case.sizes, **dict(sizes)}.values()
    x = {"layout": None, **case.make(rng, *lengths)}
    shapes = jax.eval_shape(case.call, x)
    return x | {"seed": jax.tree.map(lambda s: rng.normal(size=s.shape), shapes)}


def smaller(case: Case) -> tuple[tuple[str, int], ...]:
    """Sizes that padding brings to those of the row."""
    return tuple((axis, case.sizes[axis] - more) for axis, more in case.padding.items())


def cast(x: Inputs, dtype: Any) -> Inputs:
    """Inputs on the device, floating ones in the given type."""
    return jax.device_put(
        jax.tree.map(lambda leaf: leaf.astype(dtype) if is_floating(leaf) else leaf, x)
    )


def answer(case: Case, x: Inputs) -> Inputs:
    """The result, and derivatives of its product with the seed, where it has any."""
    if isinstance(case.derivatives, str):
        return {"out": case.call(x), "grads": {}}
    floats = {n: x[n] for n in case.axes if is_floating(x[n])}
    out, pull = jax.vjp(lambda floats: case.call(x | floats), floats)
    return {"out": out, "grads": pull(x["seed"])[0]}


def answer_axes(case: Case, results: Inputs) -> Inputs:
    """Letters of what `answer` gives."""
    return {"out": case.out, "grads": {n: case.axes[n] for n in results["grads"]}}
