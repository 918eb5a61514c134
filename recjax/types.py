"""Core types of recjax, and the legend of dimension letters.

Legend, used in every signature and docstring of the package::

    U  users                 N  nodes of a graph (U + I + A, and padding)
    I  items                 E  directed edges
    A  attribute nodes       D  embedding width
    B  batch                 F  width of a feature vector
    L  propagation layers    H  heads
    K  length of a list      M  modalities, or negatives of one row
    C  items of one chunk    n  interactions

Parameters are plain nested dicts, configuration is a frozen dataclass, data travels
in the NamedTuples below.  Arrays that live on the host are ``np.ndarray``, arrays on
a device are ``jax.Array``; the one step from the first to the second is
`recjax.data.make_context`.
"""

from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jraph
import numpy as np

Params: TypeAlias = dict[str, Any]


class Interactions(NamedTuple):
    """Rows of (user, item), on the host, by contiguous ids.

    Attributes:
      users: ``[n]`` int32.
      items: ``[n]`` int32.
      values: ``[n]`` float32 ratings, counts or weights; None where there are none.
      times: ``[n]`` int64, unix seconds in every bundled source; None where unknown.
      relations: ``[n]`` int32 index into the dataset's relation names (view, cart,
        buy); None for a dataset of one behaviour.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray | None = None
    times: np.ndarray | None = None
    relations: np.ndarray | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows n."""
        return len(self.users)

    def take(self, rows: np.ndarray) -> "Interactions":
        """The given rows (an index array or a boolean mask), in that order."""
        rest = (None if x is None else x[rows] for x in self[2:])
        return Interactions(self.users[rows], self.items[rows], *rest)


class Spec(NamedTuple):
    """Sizes that a model needs to make its parameters; hashable.

    Attributes:
      num_users: U.
      num_items: I.
      num_attributes: A, the attribute nodes of the graph.
      features: name and width F of each item feature table.
      relations: names of the R relations of the graph's edges; empty where edges are
        of one kind.  Behaviours come first, and the last of these is the target.
      num_behaviours: how many of them are behaviours.
    """

    num_users: int
    num_items: int
    num_attributes: int = 0
    features: tuple[tuple[str, int], ...] = ()
    relations: tuple[str, ...] = ()
    num_behaviours: int = 0


class ItemLists(NamedTuple):
    """One sorted list of distinct items a user (compressed sparse rows).

    Row u is ``items[pointer[u] : pointer[u + 1]]``, ascending.

    Attributes:
      pointer: ``[U + 1]`` int32.
      items: ``[n]`` int32.
    """

    pointer: Any
    items: Any


class Feature(NamedTuple):
    """A feature vector an item, with a presence mask.

    Attributes:
      values: ``[I, F]`` floating; rows of absent items are 0.
      present: ``[I]`` bool.
    """

    values: Any
    present: Any


class NegativeTable(NamedTuple):
    """What drawing negatives needs; made by `recjax.sampling.make_negative_table`.

    Attributes:
      mass: ``[I]`` uint32, running sum of the items' integer weights.
      seen: the items that are never drawn for a user.
      unseen_before: ``[n]`` uint32, for each entry of ``seen``, the weight of the
        items with a lower id that its user does not know.
    """

    mass: Any
    seen: ItemLists
    unseen_before: Any


class Context(NamedTuple):
    """All that stays constant while a model trains, on device.

    It is an argument of jitted functions, never a closure, and holds nothing but
    training interactions.

    Attributes:
      graph: users first, then items, then attribute nodes; see `recjax.graphs`.
      users: ``[n]`` int32, the user of each training pair.
      items: ``[n]`` int32, the item of each training pair.
      seen: the training items of each user.
      item_counts: ``[I]`` float32, training pairs of each item.
      negatives: the table that `recjax.sampling.sample_negatives` draws from.
      features: item feature tables by name.
      prepared: what a model made of all this before training, by name; see `prepare`.
      relations: ``[n]`` int32, the behaviour of each training pair; None where there is
        one behaviour.  Where there are several, pairs, counts and negatives are those
        of all behaviours, and ``seen`` is of the target alone.
    """

    graph: jraph.GraphsTuple
    users: jax.Array
    items: jax.Array
    seen: ItemLists
    item_counts: jax.Array
    negatives: NegativeTable
    features: dict[str, Feature]
    prepared: dict[str, Any] = {}  # noqa: RUF012 - nobody writes to it
    relations: Any = None


class Batch(NamedTuple):
    """Training pairs of one step.

    Attributes:
      users: ``[B]`` int32.
      items: ``[B]`` int32, the positives.
      negatives: ``[B, M]`` int32, items that the user does not know.
      weight: ``[B]`` float32, 1 for a real row and 0 for padding.
      relations: ``[B]`` int32, the behaviour of each pair; None where there is one.
    """

    users: jax.Array
    items: jax.Array
    negatives: jax.Array
    weight: jax.Array
    relations: Any = None


class BatchVectors(NamedTuple):
    """Vectors of the users and items of a batch.

    Attributes:
      users: ``[B, D]``.
      items: ``[B, D]``, the positives.
      negatives: ``[B, M, D]``.
    """

    users: jax.Array
    items: jax.Array
    negatives: jax.Array


class Embeddings(NamedTuple):
    """Representations of all users and items; a score is their dot product.

    Attributes:
      users: ``[U, D]``.
      items: ``[I, D]``.
    """

    users: jax.Array
    items: jax.Array


def prepare(model: Any, context: Context) -> Context:
    """The context with what a model makes of it before training.

    Args:
      model: one with a ``prepare`` of its own, or any other.
      context: the training data.

    Returns:
      The context with ``prepared`` filled; as it is where the model needs nothing.

    Examples:
      >>> import numpy as np
      >>> from recjax.data import make_context
      >>> from recjax.models import MF
      >>> train = Interactions(np.array([0]), np.array([0]))
      >>> prepare(MF(), make_context(train, Spec(1, 1))).prepared
      {}
    """
    if not hasattr(model, "prepare"):
        return context
    return context._replace(prepared=jax.device_put(model.prepare(context)))


def prepared(context: Context, name: str) -> Any:
    """An entry of ``context.prepared``.

    Args:
      context: the training data.
      name: of the entry.

    Returns:
      The entry.

    Raises:
      ValueError: the context was not prepared for the model that asks.

    Examples:
      >>> context = Context(*[None] * 7, prepared={"answer": 42})
      >>> prepared(context, "answer")
      42
    """
    if name not in context.prepared:
        raise ValueError(
            f"the context holds no {name!r} (it holds {sorted(context.prepared)}): "
            "call context = recjax.types.prepare(model, context) first, with the model "
            "that is trained or ranks"
        )
    return context.prepared[name]


class Scorer(Protocol):
    """What ranking asks of a model.

    ``embed`` runs once an evaluation and returns whatever the model scores with
    (`Embeddings`, for most); ``score`` runs once a block of users and items.
    ``fold_in`` replaces the users of that state by new ones, known only by their
    lists of items, without training.
    """

    def embed(self, params: Params, context: Context) -> Any:
        """Everything that scoring needs, from parameters and training data."""
        ...

    def score(
        self, params: Params, state: Any, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]`` of users ``[B]`` for items ``[C]``; higher is better."""
        ...

    def fold_in(
        self, params: Params, context: Context, state: Any, histories: ItemLists
    ) -> Any:
        """The state whose user b is a newcomer with the list ``histories`` row b."""
        ...


class BoundedScorer(Scorer, Protocol):
    """A scorer that can say of most items that they are out, without scoring them."""

    def score_bound(self, params: Params, state: Any) -> tuple[jax.Array, jax.Array]:
        """Factors ``[U]`` and ``[I]``, float32, none negative.

        No score ``s_ui``, as computed, exceeds the product of the factors of u and i.
        """
        ...


class Recommender(Scorer, Protocol):
    """A model that is trained by gradient steps.

    A frozen dataclass that is its own configuration: printable, hashable, saved with
    the run.
    """

    @property
    def num_negatives(self) -> int:
        """Negatives M drawn for each training pair."""
        ...

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Fresh parameters for a dataset of these sizes."""
        ...

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss of one batch, and scalars worth logging."""
        ...


class PreparedRecommender(Recommender, Protocol):
    """A model that needs more than the context has, such as graphs between items."""

    def prepare(self, context: Context) -> dict[str, Any]:
        """What ``context.prepared`` is to hold: on the host, once, without parameters.

        It is what any seed and any learning rate can share.
        """
        ...


class RefreshingRecommender(Recommender, Protocol):
    """A model whose graphs change from epoch to epoch, and stay within one."""

    def refresh(self, params: Params, context: Context, key: jax.Array) -> Context:
        """The context of one epoch; on device, compiled with it.

        Scoring does not see it: what is drawn at random is for training only.
        """
        ...


class AlternatingRecommender(RefreshingRecommender, Protocol):
    """A model of which a part learns by itself at the start of each epoch.

    That part has an optimizer state of its own, and stands still in all other steps.
    """

    first_params: tuple[str, ...]
    """Names in the dict of parameters, of what learns first."""

    def first_steps(self, context: Context) -> int:
        """Steps of that part in an epoch; by sizes alone."""
        ...

    def first_loss(
        self, params: Params, context: Context, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Loss of one such step, which draws its rows itself, and scalars to log."""
        ...


class SplitRecommender(Recommender, Protocol):
    """A model that can compute its loss from some rows of a batch on each device.

    Its loss is a mean over rows, and what else goes over all rows does so by the
    functions of `recjax.losses` and `recjax.reduce.all_rows`.  In a `jax.pmap` each
    device then gets rows of its own; a model that does not say so gets all of them.
    """

    splits_batch: bool


class LocalRecommender(Recommender, Protocol):
    """A model whose loss reads the nodes of a batch and their neighbours only.

    Its parameters have a table ``"nodes"`` of all nodes, users first, then items, and
    no other; it can be trained on drawn neighbours, see `recjax.training.Sampled`.
    """

    @property
    def hops(self) -> int:
        """Propagations that the loss reads."""
        ...


class ClosedForm(Scorer, Protocol):
    """A model whose parameters are computed from the training data in one go."""

    def solve(self, context: Context) -> Params:
        """The parameters."""
        ...
