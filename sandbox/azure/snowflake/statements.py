"""The SQL that this Snowflake understands: `SELECT SYSTEM$F('…', …)` and `SELECT * FROM table`; all else is a syntax error.

Literals: https://docs.snowflake.com/en/sql-reference/data-types-text (both `''` and backslash sequences).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.azure.snowflake.errors import compilation_error

_TOKEN = re.compile(
    r"(?P<blank>[ \t\r\n]+)|(?P<word>[A-Za-z_][A-Za-z0-9_$]*)|(?P<string>'(?:''|\\.|[^'\\])*')|(?P<sign>[(),;*.])", re.DOTALL
)
_ESCAPE = re.compile(r"''|\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[0-7]{3}|.)", re.DOTALL)
_NAMED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0"}


@dataclass(frozen=True)
class Call:
    """`SELECT FUNCTION('argument', …)`."""

    function: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """`SELECT * FROM table`."""

    table: str


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int

    def is_word(self, wanted: str) -> bool:
        return self.kind == "word" and self.text.upper() == wanted

    def is_sign(self, wanted: str) -> bool:
        return self.kind == "sign" and self.text == wanted


class _Tokens:
    def __init__(self, statement: str) -> None:
        self._all = _read(statement)
        self._next = 0

    def peek(self) -> _Token:
        return self._all[self._next]

    def take(self) -> _Token:
        token = self._all[self._next]
        self._next += 1
        return token

    def sign(self, wanted: str) -> None:
        if not (token := self.take()).is_sign(wanted):
            raise _unexpected(token)

    def end(self) -> None:
        if self.peek().is_sign(";"):
            self.take()
            if self.peek().kind != "end":
                raise compilation_error(
                    "000008", "Actual statement count 2 did not match the desired statement count 1.", "0A000"
                )
        if (token := self.take()).kind != "end":
            raise _unexpected(token)


def parsed(statement: str) -> Call | Read:
    """The one statement. Raises SnowflakeRefusedError 422."""
    tokens = _Tokens(statement)
    if not (first := tokens.take()).is_word("SELECT"):
        raise _unexpected(first)
    subject = tokens.take()
    if subject.is_sign("*"):
        if not (word := tokens.take()).is_word("FROM"):
            raise _unexpected(word)
        found: Call | Read = Read(_table(tokens))
    elif subject.kind == "word":
        found = Call(subject.text.upper(), _arguments(tokens))
    else:
        raise _unexpected(subject)
    tokens.end()
    return found


def _table(tokens: _Tokens) -> str:
    token = tokens.take()
    if token.kind != "word":
        raise _unexpected(token)
    return token.text.upper()


def _arguments(tokens: _Tokens) -> tuple[str, ...]:
    tokens.sign("(")
    found: list[str] = []
    while not tokens.peek().is_sign(")"):
        if found:
            tokens.sign(",")
        token = tokens.take()
        if token.kind != "string":
            raise _unexpected(token)
        found.append(_ESCAPE.sub(_character, token.text[1:-1]))
    tokens.sign(")")
    return tuple(found)


def _character(escape: re.Match[str]) -> str:
    text = escape[0]
    if text == "''":
        return "'"
    code = text[1:]
    if len(code) > 1:
        return chr(int(code, 8)) if code.isdigit() else chr(int(code[1:], 16))
    return _NAMED.get(code, code)


def _read(statement: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while position < len(statement):
        match = _TOKEN.match(statement, position)
        if match is None:
            raise _unexpected(_Token("sign", statement[position], position))
        if match.lastgroup != "blank":
            found.append(_Token(match.lastgroup or "", match[0], position))
        position = match.end()
    return [*found, _Token("end", "<EOF>", position)]


def _unexpected(token: _Token) -> Exception:
    return compilation_error("001003", f"syntax error line 1 at position {token.position} unexpected '{token.text}'.", "42000")
