"""What plain ``locust`` loads in a checkout (see ``[tool.locust]`` in pyproject.toml), and ``loadtest ui`` too.

docs/locust.md says what of Locust does what here, and which variables of the environment say the rest. Each traffic
entry is a user class of its name; all other names begin with an underscore, as no entry's can.
"""

import atexit as _atexit
import gc as _gc

import locust as _locust

from loadtest.load.plain.locust_test import LocustTest as _LocustTest
from loadtest.load.plain.process import LocustProcess as _LocustProcess
from loadtest.load.plain.process import WholePool as _WholePool
from loadtest.load.shutdown import plain_refusal as _plain_refusal

_atexit.register(_gc.freeze)  # as in loadtest.load
with _plain_refusal():
    _process = _LocustProcess(_LocustTest())
    _process.check_target()

# Locust takes the user classes, and the shape, that it finds among a locustfile's names.
globals().update({each.__name__: each for each in _process.test.user_classes})
_shape = type("Schedule", (_WholePool,), {"process": _process})
_locust.events.init.add_listener(_process.set_up)
