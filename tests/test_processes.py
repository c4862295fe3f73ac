"""Where a master listens, as people write it."""

import pytest

from loadtest.processes import address_text, parse_address


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("master", ("master", 5557)),
        ("[::1]", ("::1", 5557)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_read_and_written(text: str, wanted: tuple[str, int]) -> None:
    """The default port stands in for none, and what was read is written so that it is read again."""
    assert parse_address(text, 5557) == wanted
    assert parse_address(address_text(*wanted)) == wanted


@pytest.mark.parametrize("text", ["", ":1", "host:", "host:0", "host:65536", "host:one", "::1:5557", "a:b:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text, 5557)


def test_a_port_may_be_demanded() -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address("host")
