"""Headers that an entry adds: secrets come from the environment, and are shown nowhere."""

import pytest

from loadtest.errors import InputError
from loadtest.targets.connection import check_headers, header_values


def test_a_value_is_taken_from_the_environment_where_a_variable_is_named() -> None:
    """What stands there as it is is sent as it is; names are in lower case."""
    said = check_headers({"X-Tenant": "blue team", "Authorization": "$API_TOKEN"})
    assert said == {"x-tenant": "blue team", "authorization": "$API_TOKEN"}
    assert header_values(said, {"API_TOKEN": "Bearer s3cret "}) == {
        "x-tenant": "blue team",
        "authorization": "Bearer s3cret",
    }


@pytest.mark.parametrize("environ", [{}, {"API_TOKEN": ""}, {"API_TOKEN": "s3cret\r\nevil: 1"}])
def test_a_value_that_is_missing_or_cannot_be_sent_is_refused_unseen(environ: dict[str, str]) -> None:
    """Before anything is sent, naming header and variable, not the value."""
    with pytest.raises(InputError, match="authorization is taken from API_TOKEN, which is not set") as refused:
        header_values({"authorization": "$API_TOKEN"}, environ)
    assert "s3cret" not in str(refused.value)
