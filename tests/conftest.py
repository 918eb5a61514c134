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
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

_TESTS = itertools.count(1)


def pytest_configure(config):
    """Compiled programs are kept in pytest's cache, a folder for each worker.

    Most of the time of a test that calls operations one by one goes into compiling
    them, and the next test calls the same.  Processes that a test starts, and may kill
    while they write, have no part in it.
    """
    if not hasattr(config, "cache"):  # -p no:cacheprovider
        return
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    folder = config.cache.mkdir(f"jax-{worker}")
    jax.config.update("jax_compilation_cache_dir", str(folder))


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
