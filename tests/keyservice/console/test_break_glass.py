"""Break-glass accounts without a server: what an entry holds, who signs in, and how often a stranger may try."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import argon2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cmk_keyservice.console import accounts as module
from cmk_keyservice.console.accounts import (
    STRENGTH,
    Account,
    AccountError,
    Accounts,
    Unusable,
    new_account,
    new_password,
    read_account,
)
from cmk_keyservice.console.break_glass import ATTEMPTS, ATTEMPTS_OF_STRANGERS, BreakGlass, Opened, Refused, new_device
from cmk_keyservice.console.break_glass_report import report_of
from cmk_keyservice.console.people import Person, Role, person_of_account, role_of
from cmk_keyservice.console.sessions import BREAK_GLASS_IDLE_SECONDS, BREAK_GLASS_SECONDS, Sessions
from cmk_operator.api.organization_key import BreakGlassReport, OrganizationKeySpec

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
WORD = "correct horse battery"
ERIKA = new_account("acme-1", "Erika Mustermann", ["acme/acme"], WORD, NOW)


def changed(**parts: Any) -> str:
    return json.dumps({**json.loads(ERIKA.entry), **parts})


def stored(folder: Path, *found: Account) -> Accounts:
    for one in found:
        (folder / one.name).write_text(one.entry)
    return Accounts(folder)


def test_an_entry_is_read_as_it_was_written_and_holds_no_password() -> None:
    assert read_account("acme-1", ERIKA.entry) == ERIKA
    assert argon2.extract_parameters(ERIKA.hash) == STRENGTH
    assert WORD not in ERIKA.entry
    assert ERIKA.hash not in repr(ERIKA)


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ({"name": "Acme"}, "lower-case"),
        ({"name": "../secret"}, "lower-case"),
        ({"name": "a" * 64}, "lower-case"),
        ({"person": " "}, "names the person"),
        ({"person": "a\nb"}, "names the person"),
        ({"person": "a" * 121}, "names the person"),
        ({"organizations": []}, "NAMESPACE/NAME"),
        ({"organizations": ["acme"]}, "NAMESPACE/NAME"),
        ({"organizations": ["a/b/c"]}, "NAMESPACE/NAME"),
        ({"organizations": ["acme/acme", "acme/acme"]}, "each once"),
        ({"organizations": [f"acme/o{number}" for number in range(21)]}, "1 to 20"),
        ({"password": "short"}, "15 to 256"),
        ({"password": "a" * 257}, "15 to 256"),
        ({"password": "my acme-1 password"}, "does not contain"),
        ({"password": "correct\thorse battery"}, "printable"),
    ],
    ids=str,
)
def test_an_account_that_would_not_protect_anything_is_not_made(parts: dict[str, Any], word: str) -> None:
    good: dict[str, Any] = {"name": "acme-1", "person": "Erika", "organizations": ["acme/acme"], "password": WORD, "now": NOW}
    with pytest.raises(AccountError, match=word):
        new_account(**good | parts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        changed(hash="$argon2id$x"),
        changed(hash=WORD),
        changed(hash="$2b$12$abcdefghijklmnopqrstuv"),
        changed(hash=argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(WORD)),
        changed(hash=ERIKA.hash.replace("argon2id", "argon2i")),
        changed(hash=ERIKA.hash.replace("m=65536", "m=999999999")),
        changed(hash=None),
        changed(since="2026-11-30T09:00:00"),
        changed(since=1),
        changed(organizations="acme/acme"),
        changed(person=None),
    ],
    # An entry's hash has a salt, and each test process must give its tests the same names.
    ids=(
        *("empty", "a list", "no fields", "no hash of argon2", "the password itself", "bcrypt", "a weak argon2id", "argon2i"),
        *("too much memory", "no hash", "no time zone", "a number as time", "organizations as text", "nobody's"),
    ),
)
def test_an_entry_with_another_hash_or_form_signs_nobody_in(text: str) -> None:
    with pytest.raises(AccountError, match=r"anew|names"):
        read_account("acme-1", text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_an_entry_holds_is_an_account_or_a_sentence(found: Any) -> None:
    for text in (json.dumps(found), str(found), changed(hash=found), changed(since=found, organizations=found, person=found)):
        with pytest.raises(AccountError):
            read_account("acme-1", text)


async def test_the_right_password_opens_and_an_unknown_name_costs_one_hash_of_the_same_strength(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    class Counting(argon2.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override] # noqa: A002 - as it is called
            tried.append(str(hash))
            return super().verify(hash, password)

    monkeypatch.setattr(module, "_HASHER", Counting.from_parameters(STRENGTH))
    accounts = stored(tmp_path, ERIKA)
    assert await accounts.verified("acme-1", WORD) == ERIKA
    assert await accounts.verified("acme-1", f"{WORD} ") is None
    assert await accounts.verified("acme-2", WORD) is None
    assert [argon2.extract_parameters(one) for one in tried] == [STRENGTH] * 3
    assert (tried[0], tried[1], tried[2] != ERIKA.hash) == (ERIKA.hash, ERIKA.hash, True)


async def test_entries_that_cannot_be_used_are_told_and_files_of_others_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text(changed(hash="x"))
    (tmp_path / "worse").write_bytes(b"\xff{")
    (tmp_path / "..data").mkdir()
    (tmp_path / "Upper").write_text(ERIKA.entry)
    stored(tmp_path / "..data", ERIKA)
    accounts = stored(tmp_path, ERIKA)
    found = await accounts.all()
    assert [one.name for one in found] == ["acme-1", "broken", "worse"]
    assert [one.organizations for one in found if isinstance(one, Unusable)] == [{"acme/acme"}, set()]
    for name in ("broken", "Upper", "..data", "../acme-1", "", "acme-1/"):
        assert await accounts.find(name) is None, name
    assert (accounts.offered, Accounts(None).offered, Accounts(tmp_path / "none").offered) == (True, False, False)
    assert await Accounts(tmp_path / "none").all() == []


class Cheap(Accounts):
    """Accounts whose passwords are compared without a hash, so that many attempts take no time."""

    async def verified(self, name: str, password: str) -> Account | None:
        return await self.find(name) if password == WORD else None


def cheap(folder: Path) -> Accounts:
    stored(folder, ERIKA)
    return Cheap(folder)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_stranger_is_stopped_and_locks_out_nobody_who_has_been_in_before(tmp_path: Path) -> None:
    clock = Clock()
    desk = BreakGlass(cheap(tmp_path), clock)
    opened = await desk.sign_in("acme-1", WORD, "home", "")
    assert isinstance(opened, Opened)
    clock.now += ATTEMPTS[1]
    guesses = [await desk.sign_in("acme-1", "a guess", "one address", "") for _ in range(ATTEMPTS[0] + 1)]
    assert guesses == [Refused.WRONG] * ATTEMPTS[0] + [Refused.TOO_MANY]
    many = [await desk.sign_in("acme-1", "a guess", f"address {number}", "") for number in range(ATTEMPTS_OF_STRANGERS[0])]
    assert many[-1] is Refused.TOO_MANY
    assert await desk.sign_in("acme-1", WORD, "home", "") is Refused.TOO_MANY, "an unknown browser waits"
    assert isinstance(await desk.sign_in("acme-1", WORD, "home", opened.device), Opened), "a known one does not"
    again = [await desk.sign_in("acme-1", "a guess", "elsewhere", opened.device) for _ in range(ATTEMPTS[0])]
    assert again[-1] is Refused.TOO_MANY, "a stolen cookie has no more attempts than an address"
    clock.now += ATTEMPTS_OF_STRANGERS[1]
    assert isinstance(await desk.sign_in("acme-1", WORD, "home", ""), Opened), "and nobody is locked out for ever"


async def test_a_name_that_does_not_exist_is_limited_in_the_same_way_and_pushes_no_other_out(tmp_path: Path) -> None:
    clock = Clock()
    desk = BreakGlass(cheap(tmp_path), clock)
    seen = {
        name: [await desk.sign_in(name, "a guess", f"{number // 4}", "") for number in range(ATTEMPTS_OF_STRANGERS[0] + 2)]
        for name in ("acme-1", "acme-2")
    }
    assert seen["acme-1"] == seen["acme-2"]
    for number in range(10_001):
        await desk.sign_in(f"name-{number}", "a guess", "one address", "")
    assert await desk.sign_in("acme-1", WORD, "home", "") is Refused.TOO_MANY
    assert await desk.sign_in(WORD, WORD, "home", "") is Refused.WRONG


async def test_a_device_cookie_is_of_one_account_and_its_password(tmp_path: Path) -> None:
    desk = BreakGlass(stored(tmp_path, ERIKA), Clock())
    device = new_device(ERIKA)
    other = Account("acme-2", "Erika Mustermann", ERIKA.organizations, NOW, ERIKA.hash)
    renewed = Account("acme-1", "Erika Mustermann", ERIKA.organizations, NOW, ERIKA.hash.replace("$p", "$q") + "x")
    assert await desk.is_known("acme-1", device)
    nonce, _, signature = device.partition(".")
    for forged in (
        "",
        ".",
        nonce,
        f"{nonce}.",
        f"{nonce}x.{signature}",
        f"{nonce}.\udce9",
        new_device(other),
        new_device(renewed),
    ):
        assert not await desk.is_known("acme-1", forged), forged
    assert not await desk.is_known("acme-2", device)


def test_the_person_administers_the_named_organizations_alone_and_their_session_is_short() -> None:
    spec = OrganizationKeySpec.model_validate({"organization": {"id": "acme", "name": "Acme"}})
    person = person_of_account(ERIKA)
    assert person == Person("break-glass:acme-1", "Erika Mustermann", frozenset(), frozenset({"acme/acme"}))
    roles = [role_of(path, spec, person) for path in ("acme/acme", "acme/other", "evil/acme")]
    assert roles == [Role.ADMINISTRATOR, Role.NONE, Role.NONE]
    clock = Clock()
    sessions = Sessions(clock)
    held = sessions.signed_in(sessions.new(), person, ERIKA)
    for _ in range(int(BREAK_GLASS_SECONDS // 500)):
        clock.now += 500
        assert sessions.find(held.id) is held
    clock.now += 500
    assert sessions.find(held.id) is None, "use does not extend the longest life"
    idle = sessions.signed_in(sessions.new(), person, ERIKA)
    clock.now += BREAK_GLASS_IDLE_SECONDS + 1
    assert sessions.find(idle.id) is None


def test_a_generated_password_is_long_random_and_accepted() -> None:
    made = {new_password() for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 34 and one.isprintable() for one in made)


def test_the_command_reads_the_password_from_standard_input_and_shows_it_nowhere() -> None:
    arguments = ["acme-1", "--person", "Erika", "--organization", "acme/acme", "--organization", "b/b", "--namespace", "cmk"]
    command = [sys.executable, "-m", "cmk_keyservice", "break-glass", *arguments]
    made = subprocess.run([*command, "--password-stdin"], input=f"{WORD}\n", capture_output=True, text=True, check=True)
    manifest = yaml.safe_load(made.stdout)
    assert (manifest["kind"], manifest["metadata"]) == ("Secret", {"name": "cmk-break-glass", "namespace": "cmk"})
    account = read_account("acme-1", base64.b64decode(manifest["data"]["acme-1"]).decode())
    assert account.organizations == {"acme/acme", "b/b"}
    assert argon2.PasswordHasher().verify(account.hash, WORD)
    assert abs(account.since - datetime.now(UTC)) < timedelta(hours=1)
    assert (WORD in made.stdout + made.stderr, made.stderr) == (False, "")
    short = subprocess.run([*command, "--password-stdin"], input="short\n", capture_output=True, text=True, check=False)
    assert (short.returncode, short.stdout, "15 to 256" in short.stderr) == (2, "", True)
    logged = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (logged.returncode, logged.stdout, "on a terminal only" in logged.stderr) == (2, "", True)


def test_a_generated_password_is_shown_on_a_terminal_once_and_is_the_accounts() -> None:
    ours, terminal = pty.openpty()
    arguments = ["acme-1", "--person", "Erika", "--organization", "acme/acme", "--namespace", "cmk"]
    command = [sys.executable, "-m", "cmk_keyservice", "break-glass", *arguments]
    made = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal, text=True, check=True)
    os.close(terminal)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    password = shown.split("password of acme-1: ")[1].split("\r\n")[0]
    account = read_account("acme-1", base64.b64decode(yaml.safe_load(made.stdout)["data"]["acme-1"]).decode())
    assert argon2.PasswordHasher().verify(account.hash, password)
    assert (len(password), password in made.stdout) == (34, False)


def test_a_report_keeps_what_is_known_of_an_entry_until_it_is_written_anew() -> None:
    other = Account("acme-2", "Otto", frozenset({"acme/other"}), NOW, ERIKA.hash)
    broken = Unusable("acme-3", frozenset({"acme/acme"}), "why")
    entries: list[Account | Unusable] = [ERIKA, other, broken]
    first = report_of("acme/acme", entries, BreakGlassReport(), NOW)
    assert [(one.name, one.problem, one.last_used_at) for one in first.accounts] == [
        ("acme-1", None, None),
        ("acme-3", "why", None),
    ]
    assert (first.uses, first.observed_at) == ((), NOW)
    used = report_of("acme/acme", entries, first, NOW, ERIKA)
    twice = report_of("acme/acme", entries, used, NOW - timedelta(hours=1), ERIKA)
    assert [one.at for one in twice.uses] == [NOW + timedelta(seconds=1), NOW], "two uses are two, whatever the clock says"
    later = report_of("acme/acme", entries, twice, NOW + timedelta(days=1))
    assert (later.accounts[0].last_used_at, later.uses) == (NOW + timedelta(seconds=1), twice.uses)
    renewed = Account("acme-1", "Erika Mustermann", ERIKA.organizations, NOW + timedelta(days=1), ERIKA.hash)
    anew = report_of("acme/acme", [renewed], later, NOW + timedelta(days=1))
    assert (anew.accounts[0].last_used_at, anew.uses) == (None, twice.uses)
    assert report_of("acme/nobody", entries, BreakGlassReport(), NOW).accounts == ()
