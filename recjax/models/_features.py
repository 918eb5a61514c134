"""Item features as vectors of items, of lists of items, and of the width of a model.

The tables themselves are data and stay as they are; the maps are learned.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.sparse import list_sum
from recjax.types import Context, Feature, ItemLists, Params, Spec


def check_features(model: str, context: Context) -> None:
    """`ValueError` where there is no feature for the model to read."""
    if not context.features:
        raise ValueError(
            f"{model} reads item features, and the dataset has none: give it at least "
            "one table, or train lightgcn"
        )


def feature_values(feature: Feature) -> jax.Array:
    """The features ``[I, F]``, 0 for items without them."""
    return jnp.where(feature.present[:, None], feature.values, 0)


def list_features(feature: Feature, lists: ItemLists) -> Feature:
    """Mean of the features over the items of each list that have them.

    Args:
      feature: an item feature table.
      lists: B lists of items.

    Returns:
      ``[B, F]``, 0 where none has it, and ``[B]`` where any has.

    Examples:
      >>> feature = Feature(jnp.array([[2.0], [4.0], [9.0]]), jnp.array([1, 1, 0]) > 0)
      >>> lists = ItemLists(jnp.array([0, 3, 3]), jnp.array([0, 1, 2]))
      >>> mean, present = list_features(feature, lists)
      >>> mean.tolist(), present.tolist()
      ([[3.0], [0.0]], [True, False])
    """
    values = feature_values(feature)
    mask = feature.present.astype(values.dtype)[:, None]
    both = list_sum(jnp.concatenate([values, mask], axis=1), lists)
    count = both[:, -1]
    return Feature(both[:, :-1] / jnp.maximum(count, 1)[:, None], count > 0)


def init_projections(
    key: jax.Array, spec: Spec, dim: int, *, bias: bool = True
) -> Params:
    """One linear map a feature, ``{name: {"kernel": [F, D], "bias": [D]}}``.

    Args:
      key: a PRNG key.
      spec: sizes; it must name features.
      dim: D.
      bias: whether there is one.

    Returns:
      Kernels by Glorot, biases 0.

    Raises:
      ValueError: there is no feature.

    Examples:
      >>> import jax
      >>> spec = Spec(num_users=2, num_items=3, features=(("image", 5),))
      >>> params = init_projections(jax.random.key(0), spec, 4)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'image': {'bias': (4,), 'kernel': (5, 4)}}
    """
    if not spec.features:
        raise ValueError(
            "the model needs item features, but the dataset has none: add a table to "
            "its features, or train a model without"
        )
    init, params = nn.initializers.glorot_uniform(), {}
    keys = jax.random.split(key, len(spec.features))
    for (name, width), of_name in zip(sorted(spec.features), keys, strict=True):
        params[name] = {"kernel": init(of_name, (width, dim))}
        if bias:
            params[name]["bias"] = jnp.zeros(dim)
    return params


def project_features(
    params: Params, context: Context, items: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Features ``x W + b`` of items; 0 where an item lacks the feature.

    Args:
      params: from `init_projections`.
      context: the training data, with these features.
      items: ``[...]`` integer items; None for all.

    Returns:
      ``[..., D]`` by name of the feature.

    Examples:
      >>> import jax.numpy as jnp
      >>> from recjax.types import Feature
      >>> values, present = jnp.array([[2.0], [jnp.nan]]), jnp.array([True, False])
      >>> context = Context(*[None] * 6, features={"text": Feature(values, present)})
      >>> params = {"text": {"kernel": jnp.array([[3.0]]), "bias": jnp.array([1.0])}}
      >>> project_features(params, context)["text"].tolist()
      [[7.0], [0.0]]
    """
    projected = {}
    for name in sorted(params):
        values, present = context.features[name]
        if items is not None:
            values, present = values[items], present[items]
        kernel = params[name]["kernel"]
        # Before any arithmetic, which what stands in an absent row may not stand.
        values = jnp.where(present[..., None], values, 0).astype(kernel.dtype)
        vectors = values @ kernel
        if "bias" in params[name]:
            bias = jnp.broadcast_to(params[name]["bias"], vectors.shape)
            vectors = jnp.where(present[..., None], vectors + bias, 0)
        projected[name] = vectors
    return projected
