"""Paths as text: their scheme, and patterns of them, which mean what they mean to Beam's filesystems.

Beam itself takes more than a second to import, which a command that looks at local files need not wait for.
"""

from __future__ import annotations

import re

_SCHEME = re.compile(r"\s*([a-zA-Z][-a-zA-Z0-9+.]*)://")
_WILDCARD = re.compile(r"[*?\[]")
_MEMBERS = r"\][^\]]*|[^\]]+"
_TOKEN = re.compile(rf"\*\*|\[(?:!(?P<without>{_MEMBERS})|(?!!)(?P<within>{_MEMBERS}))\]|.", re.DOTALL)
_MEANING = {"**": ".*", "*": r"[^/\\]*", "?": "."}


def scheme(path: str) -> str | None:
    """`gs` of `gs://bucket/name`; None for a local path."""
    found = _SCHEME.match(path)
    return found[1] if found else None


def has_glob(path: str) -> bool:
    """Whether a character of `path` has a meaning in a pattern."""
    return _WILDCARD.search(path) is not None


def compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression for all of a path.

    `*` is any text within a folder, `**` any text, `?` one character, `[a-z]` one of these, `[!a-z]` one that is none of
    these. Nothing quotes.
    """
    return re.compile("(?ms)" + _TOKEN.sub(_translated, pattern) + r"\Z")


def _translated(token: re.Match[str]) -> str:
    for sign, members in (("^", token["without"]), ("", token["within"])):
        if members is not None:
            members = members.replace("\\", "\\\\")
            return f"[{sign}{members}]" if sign or not members.startswith("^") else rf"[\{members}]"
    return _MEANING.get(token[0]) or re.escape(token[0])
