"""``[target]``: what the embedded target is like while a scenario runs, by the settings of the reference API."""

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_origin

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from loadtest.contract import ALL, LIMIT_NAMES
from loadtest.errors import InputError
from loadtest.faults import Fault, fault_schema, from_values, to_text
from loadtest.limits import LimiterSpec
from loadtest.reference_settings import RECODE_FORM, Recode, ReferenceSettings, Setting, SettingError, settings_of
from loadtest.scenario.fields import CodeWord, Duration, LimitSpec, Strict

_LIMIT_NAMES: Any = Literal[(*map(str, LIMIT_NAMES), ALL)]
RecodeText = Annotated[str, StringConstraints(pattern=RECODE_FORM)]


def _fault(value: object) -> Fault:
    if isinstance(value, Fault):
        return value
    if not isinstance(value, dict):
        raise ValueError("a fault is a table, with its kind")  # noqa: TRY004 - pydantic reports ValueErrors
    try:
        return from_values(value)
    except InputError as error:
        raise ValueError(f"{error.message}. {error.remedy}") from None


FaultSpec = Annotated[Fault, BeforeValidator(_fault), PlainSerializer(to_text), WithJsonSchema(fault_schema())]
"""A fault, written as a table with its ``kind`` and that kind's own keys."""

_WRITTEN: dict[str, Any] = {
    "enforce": dict[_LIMIT_NAMES, LimitSpec],
    "workflows": list[str],
    "answers": dict[CodeWord, RecodeText],
    "fault": list[FaultSpec],
}
"""How a file writes settings that have several values."""


def _key(setting: Setting) -> tuple[Any, Any]:
    """A setting as a key of a file."""
    about = setting.about
    if setting.name in _WRITTEN:
        written = _WRITTEN[setting.name]
        return written, Field(default_factory=get_origin(written), description=about.meaning)
    if about.seconds:
        return Duration, Field(setting.default, description=about.meaning)
    return setting.type, Field(setting.default, ge=about.least, le=about.most, description=about.meaning)


_KEYS: dict[str, Any] = {each.name: _key(each) for each in settings_of(ReferenceSettings)}


if TYPE_CHECKING:
    # A type checker knows no keys here: code reads the settings by ``TargetSettings.settings``, where they have types.
    _Keys = Strict
else:
    _Keys = create_model("_Keys", __base__=Strict, **_KEYS)


class TargetSettings(_Keys):
    """Settings of the embedded target; they do not apply to any other."""

    keys: Annotated[int, Field(ge=1, le=1000)] = 1
    """API keys that the embedded target makes and the traffic shares."""

    @cached_property
    def settings(self) -> ReferenceSettings:
        """The settings as the reference API has them.

        Raises:
            SettingError: if they don't go together.
        """
        values = {each.name: getattr(self, each.name) for each in settings_of(ReferenceSettings)}
        values["workflows"], values["fault"] = tuple(values["workflows"]), tuple(values["fault"])
        values["answers"] = {code: Recode.parse(text) for code, text in values["answers"].items()}
        return ReferenceSettings(**values)

    @property
    def limiter(self) -> LimiterSpec:
        """How limits are counted."""
        return self.settings.limiter

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        try:
            _ = self.settings
        except SettingError as error:
            problem = PydanticCustomError("value_error", "{problem}", {"problem": str(error)})
            detail = InitErrorDetails(type=problem, loc=(error.name,), input=getattr(self, error.name))
            raise ValidationError.from_exception_data("target", [detail]) from None
        return self
