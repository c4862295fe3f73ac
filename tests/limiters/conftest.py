"""Lets the tests of limiters share what they are drawn from."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for limiter_cases: test folders are no packages
