"""Where prepared datasets live by default."""

import os
from pathlib import Path


def data_home() -> Path:
    """The folder of prepared datasets: ``$RECJAX_DATA_DIR``, else ``~/.cache/recjax``.

    Returns:
      The folder; it need not exist.

    Examples:
      >>> from unittest import mock
      >>> with mock.patch.dict(os.environ, RECJAX_DATA_DIR="/data/recjax"):
      ...     str(data_home())
      '/data/recjax'
    """
    given = os.environ.get("RECJAX_DATA_DIR")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "recjax"
