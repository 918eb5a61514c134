"""Images to what a tower takes, and to vectors."""

import jax
import numpy as np
import pytest

from recjax import encoders
from recjax.encoders import Preprocessing, VisionTransformer

HOW = Preprocessing(shortest=8, crop=(8, 8), method="bilinear")
TOWER = VisionTransformer(
    image=8, patch=4, width=8, depth=1, heads=2, hidden=8, preprocessing=HOW
)


def test_numbers_of_an_image_that_has_its_size_already(rng):
    image = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    how = Preprocessing(size=(8, 8), mean=(0.1, 0.2, 0.3), deviation=(0.5, 1.0, 2.0))
    (found,) = encoders.prepare_images(how, [image])
    expected = (image / 255 - how.mean) / how.deviation
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 21), (21, 8), (9, 12)])
def test_the_middle_is_kept(rng, shape):
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    how = Preprocessing(resize=False, crop=(8, 8), scale=1.0, mean=(0.0,) * 3)
    (found,) = encoders.prepare_images(how, [image])
    top, left = ((size - 8) // 2 for size in shape)
    np.testing.assert_allclose(found * 0.5, image[top : top + 8, left : left + 8])


def test_the_shorter_edge_gets_its_length_and_the_other_in_proportion():
    # Left half black, right half white: whatever is cut out of it stays so.
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, 24:] = 255
    (found,) = encoders.prepare_images(HOW, [image])
    assert found.shape == (8, 8, 3)
    assert (found[:, :3] == -1).all() and (found[:, 5:] > 0.999).all()
    (turned,) = encoders.prepare_images(HOW, [image.swapaxes(0, 1)])
    np.testing.assert_array_equal(turned, found.swapaxes(0, 1))


def test_a_smaller_image_is_the_mean_of_what_it_covers():
    image = np.zeros((16, 16, 3), np.uint8)
    image[::2] = 200
    how = Preprocessing(size=(4, 4), scale=1.0, mean=(0.0,) * 3)
    (found,) = encoders.prepare_images(how, [image])
    np.testing.assert_allclose(found[1:-1] * 0.5, 100, atol=1)


def test_vectors_of_images_of_mixed_sizes_and_batches(rng):
    params = jax.tree.map(lambda x: x * 20, TOWER.init(jax.random.key(0)))
    images = [
        rng.integers(0, 256, (8 + n % 2, 9, 3)).astype(np.uint8) for n in range(3)
    ]
    expected = TOWER.encode(params, encoders.prepare_images(HOW, images))
    assert np.ptp(np.asarray(expected), axis=0).max() > 0.1
    for batch_size in (2, 7):
        found = encoders.encode_images(TOWER, params, images, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert encoders.encode_images(TOWER, params, []).shape == (0, 8)
    broken = jax.tree.map(lambda x: x * np.nan, params)
    with pytest.raises(ValueError, match="not finite"):
        encoders.encode_images(TOWER, broken, images)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((3, 8, 8), np.uint8)],
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match=r"image 0 is .* must be uint8"):
        encoders.prepare_images(HOW, [image])


def test_an_image_smaller_than_what_is_kept_of_it():
    how = Preprocessing(resize=False, crop=(9, 9))
    with pytest.raises(ValueError, match="smaller than"):
        encoders.prepare_images(how, [np.zeros((8, 20, 3), np.uint8)])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"size": 224, "crop_size": 200, "do_center_crop": True, "resample": 3},
            {"shortest": 224, "crop": (200, 200), "method": "bicubic"},
        ),
        ({"size": 32}, {"shortest": 0, "size": (32, 32), "crop": None}),
        ({"size": {"height": 8, "width": 6}}, {"size": (8, 6), "method": "bilinear"}),
        (
            {"size": {"shortest_edge": 9}, "do_rescale": False, "do_normalize": False},
            {"shortest": 9, "scale": 1.0, "mean": (0, 0, 0), "deviation": (1, 1, 1)},
        ),
        (
            {"image_mean": [0.1, 0.2, 0.3], "rescale_factor": 0.5, "do_resize": False},
            {"mean": (0.1, 0.2, 0.3), "scale": 0.5, "resize": False},
        ),
    ],
)
def test_configurations(config, expected):
    found = encoders.read_preprocessing(config)
    for name, value in expected.items():
        assert getattr(found, name) == value
    for bad in ({"resample": 5}, {"size": {"longest_edge": 9}}):
        with pytest.raises(ValueError, match="is not read"):
            encoders.read_preprocessing(bad)
