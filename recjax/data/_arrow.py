"""pyarrow's compute functions, for type checkers too."""

from typing import Any

import pyarrow.compute

# Its functions are made when it is imported, so that a type checker sees none.
pc: Any = pyarrow.compute
