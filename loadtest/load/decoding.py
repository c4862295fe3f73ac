"""Bodies that come compressed (RFC 9110, section 8.4.1): decoded as they come, and never beyond a given size."""

import zlib
from typing import Final

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_WINDOWS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
PLAIN: Final = frozenset({"", "identity"})


class TooLargeError(Exception):
    """A body has more than it may have, once decoded."""


class UndecodableError(Exception):
    """A body is not what its Content-Encoding says."""


class Decoder:
    """Decodes one body.

    Args:
        coding: ``gzip``, ``x-gzip`` or ``deflate``, in lower case.
        most: bytes that it may decode to.

    Raises:
        KeyError: for another coding.
    """

    def __init__(self, coding: str, most: int) -> None:
        self._window = _WINDOWS[coding]
        self._left = most
        self._stream = zlib.decompressobj(self._window)
        self._fed = False

    def feed(self, data: bytes) -> bytes:
        """Decode the next piece.

        Raises:
            TooLargeError: if the whole is larger than it may be; no more than that was inflated.
            UndecodableError: if it is damaged.
        """
        parts = []
        while data:
            if self._stream.eof:
                # gzip files may be joined (RFC 1952, section 2.2).
                self._restart(self._window)
            try:
                part = self._stream.decompress(data, self._left + 1)
            except zlib.error:
                if self._window != _ZLIB or self._fed:
                    raise UndecodableError from None
                # Some servers leave out deflate's wrapper.
                self._restart(_RAW)
                continue
            self._fed = True
            self._left -= len(part)
            if self._left < 0:
                raise TooLargeError
            parts.append(part)
            data = self._stream.unconsumed_tail or self._stream.unused_data
        return b"".join(parts)

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            UndecodableError: if what was compressed has not.
        """
        if self._fed and not self._stream.eof:
            raise UndecodableError

    def _restart(self, window: int) -> None:
        self._window = window
        self._stream = zlib.decompressobj(window)
