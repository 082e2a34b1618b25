"""`runner:` of a job file: which of Beam's runners, with which of its options."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from pipeline.job.messages import KeyPath, MistakesError, describe
from pipeline.job.values import Section, Text, processes

SECRETS = {
    "s3_access_key_id": "AWS_ACCESS_KEY_ID",
    "s3_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "s3_session_token": "AWS_SESSION_TOKEN",
    "azure_connection_string": "AZURE_STORAGE_CONNECTION_STRING",
}
"""Options whose value would stand in the command line and in the options of the job, for all to see; the environment
variable that does the same."""

Processes = Annotated[int | Literal["auto"], BeforeValidator(processes)]


class Runner(Section):
    """What runs a job, and how it uses its machines. The command line goes before all of it.

    name: of a runner; None: in process. options: Beam's, without the dashes; a value is text, a number, true or false,
    or a list of these. processes_per_machine: processes with a copy of the model; None: the runner's own way.
    """

    name: Text | None = None
    options: dict[str, Any] = Field(default={})
    processes_per_machine: Processes | None = None

    @field_validator("options")
    @classmethod
    def _options_of_beam(cls, options: dict[str, Any]) -> dict[str, Any]:
        found: list[tuple[KeyPath, str]] = []
        for name, value in options.items():
            path = (name,)
            if not re.fullmatch(r"[A-Za-z]\w*", name):
                bare = name.lstrip("-").partition("=")[0].replace("-", "_")
                found.append((path, f"is no name of an option; write {bare}: value"))
            elif name == "runner":
                found.append((path, "is written as runner.name"))
            elif name in SECRETS:
                found.append((path, f"would be shown with the job; set {SECRETS[name]} in the environment"))
            elif not _is_value(value) and not (isinstance(value, list) and value and all(map(_is_value, value))):
                what = "an empty list" if value == [] else describe(value)
                found.append((path, f"expected text, a number, true or false, or a list of these, got {what}"))
        if found:
            raise MistakesError(found)
        return options


def _is_value(value: Any) -> bool:
    return isinstance(value, (str, int, float))
