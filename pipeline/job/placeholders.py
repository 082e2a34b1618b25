"""Placeholders in the texts of a job file: `{run_date}` with an offset and a form, `{name}`, and those of `--var`."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Mapping, Sequence

from pipeline.errors import JobError
from pipeline.job.code import FILLED
from pipeline.job.messages import KeyPath

Mistake = tuple[KeyPath, str]

_ASSETS = "assets"

_WORD = r"[A-Za-z_]\w*"
_PLACEHOLDER = re.compile(rf"(\{{)?\{{(?P<word>{_WORD})(?P<form>(?:[^\w{{}},][^{{}}]*)?)\}}(?(1)\}})")
_FORM = re.compile(r"(?P<days>[+-]\d+d)?(?::(?P<format>.*))?", re.DOTALL)
_PARTS = "YymdjGVuaAbB"
"""What `strftime` has for a date. Hours and minutes of one are always 0, which nobody means."""


class Placeholders:
    """The values of placeholders, and which of them were asked for.

    run_date: YYYY-MM-DD. variables: those of `--var`.
    """

    def __init__(self, run_date: str | None, variables: Mapping[str, str]):
        self.run_date = _date(run_date)
        self.variables = dict(variables)
        self.name: str | None = None
        self.used: set[str] = set()

    def fill(self, text: str, path: KeyPath, mistakes: list[Mistake]) -> str:
        """Put values in place of placeholders; `{{name}}` stands for `{name}` itself.

        Args:
          path: the key of the text.
          mistakes: gets those that were found.
        """

        def value(match: re.Match[str]) -> str:
            word, form = match["word"], match["form"]
            if word == _ASSETS and form.startswith("."):
                if path[:1] not in FILLED and path[:2] not in FILLED:
                    places = ", ".join(".".join(place) for place in FILLED)
                    mistakes.append((path, f"{match[0]} is filled in {places} alone"))
                return match[0]
            if form and word not in self._known() and not self._close(word):
                return match[0]  # braces of something else
            if match[1]:
                return match[0][1:-1]
            try:
                found = self._value(word, form, path)
            except ValueError as mistake:
                mistakes.append((path, f"{match[0]} {mistake}"))
                return match[0]
            return match[0] if found is None else found

        return _PLACEHOLDER.sub(value, text)

    def check_used(self) -> None:
        """Raise JobError for a `--var` that no text has asked for."""
        for name in self.variables:
            if name not in self.used:
                asked = ", ".join(f"{{{used}}}" for used in sorted(self.used)) or "none"
                raise JobError(f"--var {name}: the job file has no {{{name}}}; its placeholders: {asked}")

    def _value(self, word: str, form: str, path: KeyPath) -> str | None:
        """What stands for one placeholder; None for the name of a job that has none, which is the mistake to tell."""
        self.used.add(word)
        if word == "run_date":
            if self.run_date is None:
                raise ValueError("has no value; give it with --run_date YYYY-MM-DD")
            return date_in_form(self.run_date, form)
        if word not in self._known():
            close = self._close(word)
            more = f"known are {', '.join(self._known())}; --var {word}=... makes it one"
            raise ValueError(
                "is no placeholder; "
                + (
                    f"did you mean {{{close[0]}}}?"
                    if close
                    else f"for the braces themselves write {{{{{word}}}}}; {more}"
                )
            )
        if form:
            raise ValueError(f"has a form, which only run_date takes; write {{{word}}}")
        if word == "name":
            if path == ("name",):
                raise ValueError("is this key's own value; leave it out")
            if path[:1] == ("base",):
                raise ValueError(
                    "is not known before the base was read; write it out, or give it another name with --var"
                )
            return self.name
        return self.variables[word]

    def _known(self) -> tuple[str, ...]:
        return ("run_date", "name", *self.variables)

    def _close(self, word: str) -> list[str]:
        return difflib.get_close_matches(word, self._known(), 1)


def date_in_form(date: datetime.date, form: str) -> str:
    """A date as a placeholder asks for it.

    Args:
      form: what stands between `{run_date` and `}`: nothing (YYYY-MM-DD), `-1d` or `+1d` (days), and `:%Y/%m/%d`.

    Raises:
      ValueError: it is none of these; the message goes behind the placeholder.
    """
    match = _FORM.fullmatch(form)
    if match is None:
        raise ValueError(
            "is no form of the run date; write an offset in days and a form of strftime, or one of them: "
            "{run_date-1d:%Y/%m/%d}"
        )
    days, wanted = match["days"], match["format"]
    try:
        date += datetime.timedelta(int(days[:-1]) if days else 0)
    except OverflowError:
        raise ValueError(f"is a date that no calendar has; {days} is too far") from None
    if wanted is None:
        return date.isoformat()
    parts = [part for part in re.findall(r"%(.?)", wanted, re.DOTALL) if part != "%"]
    if not parts:
        raise ValueError(f"names no part of a date; write {{run_date{days or ''}:%Y-%m-%d}}")
    for part in parts:
        if part not in _PARTS or not part:
            known = ", ".join(f"%{letter}" for letter in _PARTS)
            raise ValueError(f"has %{part}, which is no part of a date; known are {known} and %%")
    return date.strftime(wanted)


def variables_of(texts: Sequence[str]) -> dict[str, str]:
    """The values of `--var`, `name=value` each; the last one counts.

    Raises:
      JobError: naming the option.
    """
    return dict(map(_variable, texts))


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(_WORD, name):
        raise JobError(
            f"--var {text}: expected name=value, such as --var region=eu; it fills {{region}} in the job file"
        )
    if name == "run_date":
        raise JobError("--var run_date: is given with --run_date YYYY-MM-DD")
    if name == "name":
        raise JobError("--var name: is the name of the job; override it with --set name=...")
    return name, value


def _date(text: str | None) -> datetime.date | None:
    if text is None:
        return None
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            raise ValueError
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise JobError(f"--run_date: {text!r} is no date of the form YYYY-MM-DD") from None
