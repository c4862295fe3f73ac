"""The locustfile of plain ``locust`` in a checkout (``[tool.locust]`` in pyproject.toml) and of ``loadtest ui``.

docs/locust.md describes its options and environment variables. Each traffic entry is a user class of the same name. All
other names here begin with an underscore, because no entry's name does.
"""

import atexit as _atexit
import gc as _gc

import locust as _locust

from loadtest.load.plain.locust_test import LocustTest as _LocustTest
from loadtest.load.plain.process import LocustProcess as _LocustProcess
from loadtest.load.plain.process import WholePool as _WholePool
from loadtest.load.shutdown import plain_refusal as _plain_refusal
from loadtest.record.samples import warm_up_without_pandas as _warm_up_without_pandas

_atexit.register(_gc.freeze)  # saves Python's final collection, as in loadtest.load
_warm_up_without_pandas()
with _plain_refusal():
    _process = _LocustProcess(_LocustTest())
    _process.check_target()

# Locust finds user classes and the shape among a locustfile's names.
globals().update({each.__name__: each for each in _process.test.user_classes})
_shape = type("Schedule", (_WholePool,), {"process": _process})
_locust.events.init.add_listener(_process.set_up)
