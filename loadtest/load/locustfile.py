"""The locustfile of plain ``locust`` in a checkout (``[tool.locust]`` in pyproject.toml) and of ``loadtest ui``.

docs/locust.md describes its options and environment variables. Each traffic entry is a user class of the same name. No
entry's name begins with an underscore, so all other names here do.
"""

import atexit as _atexit
import gc as _gc

import locust as _locust

from loadtest.load.load_generator import plain_refusal as _plain_refusal
from loadtest.load.locust_process import LocustProcess as _LocustProcess
from loadtest.load.locust_process import WholePool as _WholePool
from loadtest.load.locust_test import LocustTest as _LocustTest
from loadtest.record.samples import warm_up_without_pandas as _warm_up_without_pandas

_atexit.register(_gc.freeze)  # skips Python's final garbage collection, as in loadtest.load
_warm_up_without_pandas()
with _plain_refusal():
    _process = _LocustProcess(_LocustTest())
    _process.check_target()

# Locust looks for user classes and a load shape among the names of a locustfile.
globals().update({each.__name__: each for each in _process.test.user_classes})
_shape = type("Schedule", (_WholePool,), {"process": _process})
_locust.events.init.add_listener(_process.set_up)
