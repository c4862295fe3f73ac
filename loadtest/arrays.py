"""Type aliases for NumPy arrays."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
NamedColumns = NDArray[np.void]
"""Rows with named columns: a structured array."""
