"""Libraries that only language needs."""

import importlib
from typing import Any


def library(name: str) -> Any:
    """The library of that name; ValueError that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(
            f"large models need the library {name}: pip install 'recjax[language]'"
        ) from None
