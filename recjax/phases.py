"""Where a run's time went: seconds by phase, compilation apart."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax.monitoring


class Phases:
    """Adds up wall-clock seconds by name; compilation goes to ``"compile"``.

    JAX compiles a function when it is first called, in the middle of some other phase.
    Its own reports of compile time are taken out of that phase.

    Examples:
      >>> with Phases() as phases:
      ...     with phases("step"):
      ...         pass
      >>> sorted(phases.seconds)
      ['compile', 'step', 'total']
    """

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self.seconds: dict[str, float] = {"compile": 0.0}
        self._start = 0.0

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            self.seconds["compile"] += duration_secs

    def __enter__(self) -> "Phases":
        """Starts the total, and listens to compilation."""
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops both."""
        self.seconds["total"] = time.perf_counter() - self._start
        jax.monitoring.unregister_event_duration_listener(self._listen)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Counts the block under a name, less what was compiled in it."""
        start, compiled = time.perf_counter(), self.seconds["compile"]
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            elapsed -= self.seconds["compile"] - compiled
            self.seconds[name] = self.seconds.get(name, 0.0) + max(elapsed, 0.0)
