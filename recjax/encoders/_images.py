"""Images to what an image tower takes, and to vectors."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.image
import jax.numpy as jnp
import numpy as np

from recjax.types import Params

_METHODS = {0: "nearest", 1: "lanczos3", 2: "bilinear", 3: "bicubic"}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to an image, in this order; of ``preprocessor_config.json``."""

    shortest: int = 0
    """What the shorter edge is brought to, the other in proportion; 0 for not."""
    size: tuple[int, int] = (224, 224)
    """Height and width that it is brought to, where no shorter edge is given."""
    resize: bool = True
    """Whether the size is changed at all."""
    method: str = "bilinear"
    """How: nearest, bilinear, bicubic or lanczos3."""
    crop: tuple[int, int] | None = None
    """Height and width of the middle that is kept; None for all."""
    scale: float = 1 / 255
    """What numbers are multiplied by."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """What is subtracted from red, green and blue."""
    deviation: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """What they are then divided by."""


def read_preprocessing(config: dict[str, Any]) -> Preprocessing:
    """What a ``preprocessor_config.json`` says."""
    size = config.get("size", 224)
    # Older files say a number: the shorter edge where the middle is cut out after.
    if isinstance(size, int):
        whole = {"height": size, "width": size}
        size = {"shortest_edge": size} if config.get("do_center_crop") else whole
    crop = config.get("crop_size", size)
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    method = config.get("resample", 2)
    if method not in _METHODS:
        raise ValueError(f"resample {method!r} is not read, only {_METHODS}")
    if not {"shortest_edge"} <= set(size) and not {"height", "width"} <= set(size):
        raise ValueError(f"size {size!r} is not read")
    shortest = size.get("shortest_edge", 0)
    normal = config.get("do_normalize", True)
    return Preprocessing(
        shortest=shortest,
        size=(size.get("height", shortest), size.get("width", shortest)),
        resize=config.get("do_resize", True),
        method=_METHODS[method],
        crop=(crop["height"], crop["width"]) if config.get("do_center_crop") else None,
        scale=config.get("rescale_factor", 1 / 255)
        if config.get("do_rescale", True)
        else 1.0,
        mean=tuple(config.get("image_mean", (0.5,) * 3)) if normal else (0.0,) * 3,
        deviation=tuple(config.get("image_std", (0.5,) * 3)) if normal else (1.0,) * 3,
    )


def prepare_images(
    preprocessing: Preprocessing, images: Sequence[np.ndarray] | np.ndarray
) -> np.ndarray:
    """Images as a tower takes them.

    Resizing is that of `jax.image.resize` with antialiasing, one axis after the other,
    rounded to whole numbers as Pillow does it: about one number in a hundred differs
    from Pillow's by 1 or 2 of 255.  Images of one size are compiled for once.

    Args:
      preprocessing: of the tower.
      images: N of them, ``[H, W, 3]`` uint8 (red, green, blue), of any sizes; files are
        read by whatever library you like, as ``numpy.asarray(PIL.Image.open(file)
        .convert("RGB"))``.

    Returns:
      ``[N, height, width, 3]`` float32.

    Raises:
      ValueError: one is of another shape or type, or smaller than what is kept of it.

    Examples:
      >>> square = Preprocessing(size=(4, 4))
      >>> white = np.full((9, 6, 3), 255, np.uint8)
      >>> found = prepare_images(square, [white])
      >>> found.shape, float(found.min())
      ((1, 4, 4, 3), 1.0)
    """
    out = []
    for place, image in enumerate(images):
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"image {place} is {image.dtype} {list(image.shape)}, and must be "
                "uint8 [height, width, 3]"
            )
        out.append(np.asarray(_prepare(preprocessing, image)))
    return np.stack(out) if out else np.zeros((0, *preprocessing.size, 3), np.float32)


def encode_images(
    tower: Any,
    params: Params,
    images: Sequence[np.ndarray] | np.ndarray,
    *,
    batch_size: int = 32,
) -> np.ndarray:
    """Vectors of images, in their order.

    Args:
      tower: a `VisionTransformer`.
      params: its parameters.
      images: as for `prepare_images`.
      batch_size: images of a batch.

    Returns:
      ``[N, D]`` float32, on the host.

    Raises:
      ValueError: an image is of another shape or type, or a vector is not finite.
    """
    out = np.zeros((len(images), tower.dim), np.float32)
    for start in range(0, len(images), batch_size):
        some = prepare_images(tower.preprocessing, images[start : start + batch_size])
        batch = np.zeros((batch_size, *some.shape[1:]), np.float32)
        batch[: len(some)] = some
        out[start : start + batch_size] = _encode(tower, params, batch)[: len(some)]
    if not np.isfinite(out).all():
        raise ValueError(
            "vectors of images are not finite: the parameters are damaged, or too "
            "large for their type"
        )
    return out


@functools.partial(jax.jit, static_argnames="tower")
def _encode(tower: Any, params: Params, images: jax.Array) -> jax.Array:
    return tower.encode(params, images)


@functools.partial(jax.jit, static_argnames="how")
def _prepare(how: Preprocessing, image: jax.Array) -> jax.Array:
    height, width = image.shape[:2]
    x = image.astype(jnp.float32)
    if how.resize:
        size = how.size
        if how.shortest:
            short, long = sorted((height, width))
            longer = int(how.shortest * long / short)
            size = (how.shortest, longer) if height <= width else (longer, how.shortest)
        # One axis after the other, each to whole numbers, as Pillow does.
        for shape in ((height, size[1], 3), (*size, 3)):
            x = jax.image.resize(x, shape, how.method, antialias=True)
            x = jnp.round(jnp.clip(x, 0, 255))
    if how.crop is not None:
        top, left = ((a - b) // 2 for a, b in zip(x.shape, how.crop, strict=False))
        if top < 0 or left < 0:
            raise ValueError(f"an image {x.shape} is smaller than {how.crop}")
        x = x[top : top + how.crop[0], left : left + how.crop[1]]
    mean, deviation = (jnp.array(of)[None, None] for of in (how.mean, how.deviation))
    return (x * how.scale - mean) / deviation
