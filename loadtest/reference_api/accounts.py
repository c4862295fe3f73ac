"""Who asks: API keys, and the endpoint that a request names."""

from collections.abc import Mapping

from loadtest.reference_api.answers import ApiError, Header
from loadtest.reference_api.config import ServerConfig
from loadtest.reference_api.throttle import Limiters, Throttle


class Account:
    """One API key: what it draws on, and the owner of its jobs.

    Args:
        limiters: by limit name.
    """

    __slots__ = ("limiters",)

    def __init__(self, limiters: Limiters) -> None:
        self.limiters = limiters


class Accounts:
    """Every account of a server, by its key.

    Args:
        config: keys and endpoint.
        throttle: the limits.
    """

    def __init__(self, config: ServerConfig, throttle: Throttle) -> None:
        self._accounts = {key.encode(): Account(throttle.limiters()) for key in config.keys}
        self._endpoint = config.endpoint.encode() if config.endpoint else None

    @property
    def by_key(self) -> Mapping[bytes, Account]:
        """Every account by its API key."""
        return self._accounts

    def find(self, headers: list[Header]) -> Account:
        """The account that a request belongs to, by its headers. One that comes twice is the list of its values.

        Raises:
            ApiError: 401 ``missing_api_key`` or ``invalid_api_key``, 400 ``missing_endpoint``, 404
                ``unknown_endpoint``.
        """
        key = endpoint = None
        for name, value in headers:
            if name == b"x-api-key":
                key = value if key is None else key + b", " + value
            elif name == b"x-wf-endpoint":
                endpoint = value if endpoint is None else endpoint + b", " + value
        account = self._accounts.get(key) if key else None
        if account is None and key:
            account = self._accounts.get(key.strip())  # the parser leaves white space at the end of values
        if account is None:
            if not key:
                raise ApiError(401, "missing_api_key", "The API key is missing", {"header": "x-api-key"})
            raise ApiError(401, "invalid_api_key", "The API key is not a valid one", {"header": "x-api-key"})
        if not endpoint:
            raise ApiError(400, "missing_endpoint", "The endpoint header is missing", {"header": "x-wf-endpoint"})
        if self._endpoint is not None and endpoint.strip() != self._endpoint:
            raise ApiError(404, "unknown_endpoint", "There is no such endpoint", {"header": "x-wf-endpoint"})
        return account
