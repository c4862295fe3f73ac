"""``python -m loadtest.cli``: runs the ``loadtest`` command."""

import sys

from loadtest.cli import main

sys.exit(main())
