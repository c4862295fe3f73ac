"""The OpenAPI document of the API, which lies beside this file and is served as it is."""

from importlib.resources import files
from typing import Final

from loadtest.reference_api.answers import Header, Reply

PATH: Final = "/openapi.yaml"
YAML: Final[Header] = (b"content-type", b"application/yaml")


def document() -> Reply:
    """Read the document, as an answer."""
    body = files("loadtest.reference_api").joinpath("openapi.yaml").read_bytes()
    return Reply(200, body, content_type=YAML)
