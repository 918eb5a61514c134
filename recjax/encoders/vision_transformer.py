"""Image towers: ViT, and the image half of CLIP."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.encoders._blocks import (
    ACTIVATIONS,
    attend,
    init_layers,
    pool,
    through_layers,
)
from recjax.encoders._images import Preprocessing
from recjax.types import Params

_INIT = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class VisionTransformer:
    r"""A transformer over the patches of an image, and one more vector for the whole.

    With ``h`` of the patches' projections, a class vector in front and positions added,
    each layer is

    .. math:: h' = h + attention(norm(h)), \qquad h'' = h' + W_2 g(W_1 norm(h')).

    The image's vector is the last state of the class vector, normed, and in CLIP
    projected into the space that it shares with texts.

    Parameters, with the L layers stacked, kernels ``[in, out]``::

        embeddings  patch: kernel [P, P, 3, D] (and bias); class: embedding [D]
                    position: embedding [1 + patches, D]; norm: scale, bias  (CLIP)
        layers      attention: query, key, value, output: kernel, bias
                    attention_norm, feed_forward_norm: scale, bias
                    inner, outer: kernel, bias
        norm        scale, bias
        projection  kernel                                                  (CLIP)

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> sizes = {"width": 8, "depth": 2, "heads": 2, "hidden": 16}
      >>> tower = VisionTransformer(image=8, patch=4, **sizes)
      >>> params = tower.init(jax.random.key(0))
      >>> params["embeddings"]["position"]["embedding"].shape
      (5, 8)
      >>> tower.encode(params, jnp.zeros((1, 8, 8, 3))).shape
      (1, 8)

    References:
      Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021.  Radford et al.,
      CLIP, ICML 2021.
    """

    image: int = 224
    """Height and width of the images."""
    patch: int = 16
    """Height and width of a patch."""
    width: int = 768
    """Width of the states."""
    depth: int = 12
    """Layers L."""
    heads: int = 12
    """Heads H of attention."""
    hidden: int = 3072
    """Width between the two halves of the perceptron."""
    projection: int = 0
    """Width of the projected vector (CLIP); 0 for none."""
    embedding_norm: bool = False
    """Whether there is a norm before the first layer (CLIP)."""
    patch_bias: bool = True
    """Whether the projection of patches has a bias (ViT)."""
    activation: str = "gelu"
    """One of gelu, gelu_tanh, quick_gelu, relu, silu."""
    epsilon: float = 1e-12
    """Added to the variance in norms."""
    pooling: Literal["mean", "cls"] = "cls"
    """Whether the class vector stands for the image, or the mean of all."""
    normalise: bool = True
    """Whether vectors get the length 1."""
    remat: bool = False
    """Keep the inside of no layer for derivatives, but compute it again."""
    preprocessing: Preprocessing = Preprocessing()  # noqa: RUF009 - frozen
    """What is done to an image before; see `recjax.encoders.prepare_images`."""

    def __post_init__(self) -> None:
        """Refuses sizes that do not fit."""
        if self.image % self.patch:
            raise ValueError(
                f"image {self.image} must be a multiple of patch {self.patch}"
            )
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} must be a multiple of heads {self.heads}"
            )

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self.projection or self.width

    def init(self, key: jax.Array) -> Params:
        """Random parameters, of deviation 0.02."""
        keys = jax.random.split(key, 3)
        images = jnp.zeros((1, self.image, self.image, 3))
        x = jnp.zeros((1, 1, self.width))
        params = {
            "embeddings": _Embeddings(self).init(keys[0], images)["params"],
            "layers": init_layers(_Layer(self), keys[1], self.depth, x),
            "norm": {"scale": jnp.ones(self.width), "bias": jnp.zeros(self.width)},
        }
        if self.projection:
            kernel = _INIT(keys[2], (self.width, self.projection))
            params["projection"] = {"kernel": kernel}
        return params

    def states(self, params: Params, images: jax.Array) -> jax.Array:
        """The last vectors, normed: of the whole and of each patch, ``[B, 1 + N, D]``.

        Args:
          params: from `init` or `recjax.encoders.load`.
          images: ``[B, H, W, 3]`` floating, from `recjax.encoders.prepare_images`.

        Returns:
          States.
        """
        images = jnp.asarray(images)
        if images.shape[1:] != (self.image, self.image, 3):
            raise ValueError(
                f"images {images.shape} must be [B, {self.image}, {self.image}, 3]; "
                "make them so by prepare_images"
            )
        # Of the type of the parameters, as the vectors of tokens are.
        images = images.astype(params["embeddings"]["patch"]["kernel"].dtype)
        x: Any = _Embeddings(self).apply({"params": params["embeddings"]}, images)
        x = through_layers(_Layer(self), params["layers"], x, remat=self.remat)
        states: Any = _norm(self, None).apply({"params": params["norm"]}, x)
        return states

    def encode(self, params: Params, images: jax.Array) -> jax.Array:
        """A vector of each image, ``[B, D]`` float32; see `states`."""
        states = self.states(params, images)
        if self.projection:
            states = states @ params["projection"]["kernel"]
        everything = jnp.ones(states.shape[:2], bool)
        pooled = pool(states, everything, self.pooling, normalise=self.normalise)
        return pooled[:, 0]


class _Embeddings(nn.Module):
    tower: VisionTransformer

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        own = self.tower
        size = (own.patch, own.patch)
        x = nn.Conv(
            own.width,
            size,
            strides=size,
            padding="VALID",
            use_bias=own.patch_bias,
            kernel_init=_INIT,
            name="patch",
        )(images)
        x = x.reshape(len(x), -1, own.width)
        whole = _Table((own.width,), name="class")()
        whole = jnp.broadcast_to(whole, (len(x), 1, own.width))
        x = jnp.concatenate([whole, x], axis=1)
        x = x + _Table((x.shape[1], own.width), name="position")()[None]
        return _norm(own, "norm")(x) if own.embedding_norm else x


class _Table(nn.Module):
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("embedding", _INIT, self.shape)


class _Layer(nn.Module):
    tower: VisionTransformer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        own = self.tower
        normed = _norm(own, "attention_norm")(x)
        x = x + _Attention(own, name="attention")(normed)
        wide = nn.Dense(own.hidden, kernel_init=_INIT, name="inner")(
            _norm(own, "feed_forward_norm")(x)
        )
        wide = ACTIVATIONS[own.activation](wide)
        return x + nn.Dense(own.width, kernel_init=_INIT, name="outer")(wide)


class _Attention(nn.Module):
    tower: VisionTransformer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        own = self.tower
        split = (*x.shape[:2], own.heads, own.width // own.heads)
        query, key, value = (
            nn.Dense(own.width, kernel_init=_INIT, name=name)(x).reshape(split)
            for name in ("query", "key", "value")
        )
        seen = attend(query, key, value, None)
        return nn.Dense(own.width, kernel_init=_INIT, name="output")(seen)


def _norm(tower: VisionTransformer, name: str | None) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=tower.epsilon, use_fast_variance=False, name=name)
