"""Fusion by a mixture of experts, shared and of each modality.

The conventions on missing modalities are those of `recjax.layers._fusion`.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.layers._dense import dense, init_dense
from recjax.layers._modalities import Arrays, keep, prepare, total
from recjax.types import Params


def init_fuse_experts(
    key: jax.Array,
    widths: Mapping[str, int],
    width: int,
    *,
    hidden: int,
    num_shared: int,
    num_specific: int,
) -> Params:
    """Parameters of `fuse_experts`.

    Args:
      key: a PRNG key.
      widths: F of each modality; one and the same if there are shared experts.
      width: D of the result.
      hidden: width of the experts' hidden layer.
      num_shared: E_s, experts that all modalities use; may be 0.
      num_specific: E_p, experts of each modality alone; may be 0.

    Returns:
      ``{"shared": experts, "specific": {name: experts}, "gates": {name: {"kernel",
      "bias"}}}``, without the kind of experts that there are none of.  Experts are
      ``{"first": {"kernel": [E, F, hidden], "bias": [E, hidden]}, "second": {"kernel":
      [E, hidden, D], "bias": [E, D]}}``, a gate is ``[F, E_s + E_p]``.  Kernels by
      Glorot, biases 0.

    Raises:
      ValueError: no expert at all, or shared ones for modalities of several widths.

    Examples:
      >>> import jax
      >>> params = init_fuse_experts(
      ...     jax.random.key(0), {"text": 3}, 4, hidden=5, num_shared=2, num_specific=1
      ... )
      >>> jax.tree.map(lambda x: x.shape, params["gates"])
      {'text': {'bias': (3,), 'kernel': (3, 3)}}
      >>> params["shared"]["first"]["kernel"].shape
      (2, 3, 5)
    """
    if min(num_shared, num_specific) < 0 or num_shared + num_specific == 0:
        raise ValueError(
            f"num_shared {num_shared} and num_specific {num_specific} must be at least "
            "0, and one of them more"
        )
    if num_shared and len(set(widths.values())) != 1:
        raise ValueError(
            f"shared experts need modalities of one width, not {dict(widths)}: "
            "project them first"
        )
    init = nn.initializers.glorot_uniform(batch_axis=(0,))

    def experts(key: jax.Array, num: int, width_in: int) -> Params:
        first, second = jax.random.split(key)
        return {
            "first": {
                "kernel": init(first, (num, width_in, hidden)),
                "bias": jnp.zeros((num, hidden)),
            },
            "second": {
                "kernel": init(second, (num, hidden, width)),
                "bias": jnp.zeros((num, width)),
            },
        }

    names = sorted(widths)
    shared_key, *keys = jax.random.split(key, 2 * len(names) + 1)
    params: Params = {
        "gates": {
            name: init_dense(key, widths[name], num_shared + num_specific)
            for name, key in zip(names, keys[::2], strict=True)
        }
    }
    if num_shared:
        params["shared"] = experts(shared_key, num_shared, widths[names[0]])
    if num_specific:
        params["specific"] = {
            name: experts(key, num_specific, widths[name])
            for name, key in zip(names, keys[1::2], strict=True)
        }
    return params


def fuse_experts(
    params: Params, modalities: Arrays, present: Arrays | None = None
) -> jax.Array:
    """Mixture of experts, ``h = sum_m sum_e g_me f_e(h_m)``.

    Gates ``g_m = softmax(G_m h_m + b_m)`` over the shared experts and those of the
    modality; experts ``f(x) = W_2 relu(W_1 x + b_1) + b_2``.  KAR hands on one vector a
    modality; here they are summed.

    Args:
      params: from `init_fuse_experts`.
      modalities: ``[N, F]`` each.
      present: ``[N]`` mask each; None for no missing ones.

    Returns:
      ``[N, D]``; 0 where no modality is present.

    Raises:
      ValueError: shapes that do not fit, a modality without parameters, a mask for a
        modality that is not there.

    Examples:
      >>> import jax.numpy as jnp
      >>> experts = {
      ...     "first": {"kernel": jnp.ones((2, 1, 1)), "bias": jnp.zeros((2, 1))},
      ...     "second": {
      ...         "kernel": jnp.array([[[2.0]], [[4.0]]]), "bias": jnp.zeros((2, 1))
      ...     },
      ... }
      >>> gate = {"kernel": jnp.zeros((1, 2)), "bias": jnp.zeros(2)}
      >>> params = {"shared": experts, "gates": {"text": gate}}
      >>> fuse_experts(params, {"text": jnp.array([[1.0], [-1.0]])}).tolist()
      [[3.0], [0.0]]

    References:
      Xi et al., Towards open-world recommendation with knowledge augmentation from
      large language models (KAR), RecSys 2024, the hybrid-expert adaptor; Tang et
      al., Progressive layered extraction, RecSys 2020.
    """
    gates = params["gates"]
    terms = []
    for name, values, mask in prepare(modalities, present, known=gates):
        gate = jax.nn.softmax(dense(name, values, gates[name]), axis=-1)
        groups = [params["shared"]] if "shared" in params else []
        if "specific" in params:
            groups.append(params["specific"][name])
        start = 0
        for experts in groups:
            stop = start + experts["first"]["kernel"].shape[0]
            mixed = _mix(name, values, gate[:, start:stop], experts)
            terms.append(keep(mask, mixed))
            start = stop
    return total(terms)


def _mix(name: str, values: jax.Array, gate: jax.Array, experts: Params) -> jax.Array:
    """Sum of the experts' results by their gates ``[N, E]``."""
    first, second = experts["first"], experts["second"]
    if values.shape[-1] != first["kernel"].shape[1]:
        raise ValueError(
            f"{name} {values.shape} does not fit the experts {first['kernel'].shape}: "
            "the last axis of the one must be the second of the other"
        )
    hidden = jnp.einsum("nf,efh->neh", values, first["kernel"])
    hidden = jax.nn.relu(hidden + first["bias"][None])
    # The gate before the second layer: no array [N, E, D] is made.
    mixed = jnp.einsum("neh,ehd->nd", hidden * gate[:, :, None], second["kernel"])
    return mixed + gate @ second["bias"]
