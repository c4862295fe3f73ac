"""Our options in ``locust --help``, which Locust prints before it reads a locustfile.

Locust imports a module of this name at its start, if there is one.
"""

import sys

import locust

if {"-h", "--help"} & set(sys.argv):
    from loadtest.load.locust_test import add_options

    locust.events.init_command_line_parser.add_listener(lambda parser, **_: add_options(parser))
