"""Reads YAML for people: every value with the line it stands on, every mistake in plain words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.errors import JobError
from pipeline.job.messages import KeyPath, describe, dotted

_PLAIN_WORDS = (
    (r"character '\\t'", "a tab; YAML is indented with spaces"),
    (r"character '(.)' that cannot start", r"text cannot start with \1; put it in quotes"),
    (r"mapping values are not allowed", "a ':' where none can be; put text that holds ': ' in quotes, or mend the indentation"),
    (r"undefined alias|scanning an alias", "text that starts with * has to be in quotes"),
    (r"scanning an anchor", "text that starts with & has to be in quotes"),
    (r"quoted scalar.*unexpected end", "a quote is opened here and never closed"),
    (r"could not find expected ':'", "a key without ': ' behind it"),
    (r"parsing a flow", "a bracket is opened here and not closed; text that starts with { or [ has to be in quotes"),
    (
        r"expected <block end>",
        "not indented like the lines above, or text goes on behind a closing quote or bracket "
        "(text that starts with { or [ has to be in quotes)",
    ),
    (r"expected a single document", "a second document starts here; a job file is one"),
    (r"constructor for the tag", "tags (!...) are not read"),
)  # fmt: skip


@dataclass(frozen=True)
class Document:
    """What a YAML text says. `lines`: the line, from 1, that each key or list item stands on."""

    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)


def parse(text: str, place: str, path: KeyPath = ()) -> Document:
    """Read one YAML document with plain values only: text, numbers, booleans, dates, lists and mappings.

    Args:
      text: the YAML.
      place: the file or option it comes from, for errors.
      path: the key that the text is the value of.

    Raises:
      JobError: no YAML, a key that is there twice, or is no text (within a value of `model.params` any key is taken).
    """
    try:
        loader = yaml.SafeLoader(text)  # raises for control characters
        node = loader.get_single_node()
        if node is None:
            return Document(None)
        reader = _Reader(loader, place)
        return Document(reader.value(node, path, ()), reader.lines)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise JobError(f"{place}:{line}: a control character; is this a YAML file?") from error
    except yaml.MarkedYAMLError as error:
        raise JobError(_plain(error, place)) from error


class _Reader:
    """Makes values of YAML nodes, and remembers the line of each."""

    def __init__(self, loader: yaml.SafeLoader, place: str):
        self.loader = loader
        self.place = place
        self.lines: dict[KeyPath, int] = {}
        self._without_duplicates: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath, inside: tuple[int, ...]) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in inside:
            raise self._mistake(node, "an alias (*) stands inside of what it stands for")
        inside = (*inside, id(node))
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path, inside)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.value(item, (*path, number), inside) for number, item in enumerate(node.value)]
        return self._plain_value(node)

    def _plain_value(self, node: yaml.Node) -> Any:
        try:
            return self.loader.construct_object(node, deep=True)
        except ValueError as error:
            text = f"{node.value!r} looks like a date or number and is none; put it in quotes"
            raise self._mistake(node, text) from error

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, inside: tuple[int, ...]) -> dict[Any, Any]:
        self._refuse_duplicates(node, path)
        self.loader.flatten_mapping(node)  # puts what `<<: *anchor` brings before the mapping's own keys
        result = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            inner = (*path, key)
            self.lines[inner] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, inner, inside)
        return result

    def _key(self, node: yaml.Node, path: KeyPath) -> Any:
        key = self._plain_value(node) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(key, str) or (key is not None and path[:2] == ("model", "params") and len(path) > 2):
            return key
        if key is None:
            raise self._mistake(node, "a key has to be text; put text that starts with { or [ in quotes")
        raise self._mistake(node, f"a key has to be text, got {describe(key)}; put it in quotes")

    def _refuse_duplicates(self, node: yaml.MappingNode, path: KeyPath) -> None:
        if id(node) in self._without_duplicates:  # seen through an alias: merged keys stand in it by now
            return
        self._without_duplicates.add(id(node))
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in lines:
                    key = dotted((*path, key_node.value))
                    text = f"{key}: is there twice, first on line {lines[key_node.value]}; keep one"
                    raise self._mistake(key_node, text)
                lines[key_node.value] = key_node.start_mark.line + 1

    def _mistake(self, node: yaml.Node, text: str) -> JobError:
        return JobError(f"{_position(self.place, node.start_mark)}: {text}")


def _plain(error: yaml.MarkedYAMLError, place: str) -> str:
    technical = f"{error.context or ''} {error.problem or ''}".strip()
    for pattern, words in _PLAIN_WORDS:
        match = re.search(pattern, technical)
        if match:
            opened = "opened here" in words and error.context_mark
            return f"{_position(place, opened or error.problem_mark)}: {match.expand(words)}{_shell_remedy(place)}"
    return f"{_position(place, error.problem_mark)}: no valid YAML: {technical}"


def _shell_remedy(place: str) -> str:
    return (
        f" (the shell takes one pair away: '{place.partition(' ')[2]}=\"...\"')" if place.startswith("--set ") else ""
    )


def _position(place: str, mark: Any) -> str:
    return place if mark is None or place.startswith("--") else f"{place}:{mark.line + 1}:{mark.column + 1}"
