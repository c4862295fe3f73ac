"""Terminal output with colours and tables. Control characters in foreign text are escaped."""

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment

from loadtest.foreign_text import visible_text


class Console(rich.console.Console):
    """A Rich console that escapes invisible characters, except in Rich's own control sequences.

    By default it highlights nothing, and prints markup and emoji codes as they are, because names may contain them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control or text.isprintable() else visible_text(text), style, control)
