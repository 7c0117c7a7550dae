"""How both programs read their settings: flags, then variables with the program's prefix, then those that every pod has."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, InitSettingsSource, PydanticBaseSettingsSource

from cmk_operator.core.text.variables import unknown_settings

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydantic_core import ErrorDetails

STANDARD: Final = {"federated_token_file": "AZURE_FEDERATED_TOKEN_FILE", "instance": "HOSTNAME"}
"""Settings whose default is a variable that others set: Azure's workload identity and the kubelet."""


class ProcessSettings(BaseSettings):
    """Settings of one program, all of which have an environment variable with the model's prefix."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and variables, and below them the variables of `STANDARD` for the fields that the model has."""
        found = {
            name: os.environ[variable]
            for name, variable in STANDARD.items()
            if name in cls.model_fields and os.environ.get(variable)
        }
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=found)

    @classmethod
    def variables(cls) -> frozenset[str]:
        """The names of the environment variables that the model reads, in upper case."""
        return frozenset(f"{cls.model_config['env_prefix']}{name}".upper() for name in cls.model_fields)


S = TypeVar("S", bound=ProcessSettings)


def settings_or_exit(program: str, kind: type[S], arguments: list[str] | None, known: Collection[str]) -> S:
    """The settings of a program; a variable with its prefix that is none of `known` is refused.

    Ends the process with status 2 if a setting is wrong, after a line on standard error for each. No secret is shown.
    """
    complaints: list[str] = []
    settings = None
    try:
        settings = CliApp.run(kind, cli_args=arguments)
    except ValidationError as error:
        complaints += map(_complaint, error.errors())
    complaints += unknown_settings(os.environ, kind.model_config["env_prefix"], known)
    if settings is None or complaints:
        sys.stderr.write("".join(f"{program}: setting {complaint}\n" for complaint in complaints))
        sys.exit(2)
    return settings


def _complaint(problem: ErrorDetails) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    # A URL may be a secret, and a rule about several settings has all of them as its input.
    given = problem["input"] if "url" not in name and not isinstance(problem["input"], dict) else None
    shown = f" (got {given!r})" if given is not None else ""
    return f"{name or 'combination'}: {problem['msg']}{shown}"
