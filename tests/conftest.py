"""Eight host devices for every test, so that nothing is skipped for hardware."""

import itertools
import os

# Before JAX starts: the device count is fixed when the backend is made.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

_TESTS = itertools.count(1)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def few_programs():
    """Compiled programs do not pile up.

    Each holds memory in many small pieces, and a process may map no more than 65,530
    of them (Linux): the compiler aborts at the next.
    """
    yield
    if next(_TESTS) % 100 == 0:
        jax.clear_caches()
