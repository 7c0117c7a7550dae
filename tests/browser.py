"""A browser without scripts: it keeps cookies, follows redirects and submits the forms that pages show."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urljoin, urlsplit

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

PAGE = {"Accept": "text/html,application/xhtml+xml"}


@dataclass
class Form:
    """A form of a page."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        got = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(got.get("action", "")))
        elif self.forms and tag == "input" and got.get("name") and (got.get("type") != "radio" or "checked" in got):
            self.forms[-1].fields[got["name"]] = got.get("value", "")
        elif self.forms and tag == "textarea":
            self.forms[-1].fields[got["name"]] = ""
        elif self.forms and tag == "button" and got.get("name"):
            self.forms[-1].buttons[got["name"]] = got.get("value", "")


@dataclass(frozen=True)
class Page:
    """What a browser shows."""

    url: str
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def forms(self) -> list[Form]:
        reader = _Forms()
        reader.feed(self.text)
        return reader.forms

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query))


class Browser:
    """One browser; it stops before a URL that begins with `stop`, which it only shows as the page's URL."""

    def __init__(self, session: aiohttp.ClientSession, proxy: str, stop: str = "\0") -> None:
        self._session, self._proxy, self.stop = session, proxy, stop

    async def open(self, url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> Page:
        """Open a URL, and follow redirects."""
        for _ in range(10):
            if url.startswith(self.stop):
                return Page(url, 0, {}, "")
            page = await self.once(url, form, headers)
            if page.status not in {302, 303}:
                return page
            url, form = urljoin(url, page.headers["Location"]), None
        raise AssertionError("redirects without an end")

    async def once(self, url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> Page:
        """One request."""
        outside = urlsplit(url).hostname != "127.0.0.1"
        async with self._session.request(
            "GET" if form is None else "POST",
            url,
            data=form,
            headers={**PAGE, **(headers or {})},
            proxy=self._proxy if outside else None,
            allow_redirects=False,
        ) as response:
            return Page(url, response.status, dict(response.headers), await response.text())

    async def submit(self, page: Page, _number: int = 0, /, **fields: str) -> Page:
        """Submit a form of the page."""
        form = page.forms[_number]
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(page.url))
        return await self.open(urljoin(page.url, form.action), {**form.fields, **fields}, {"Origin": origin})

    def cookie(self, name: str) -> str | None:
        """The value of a cookie of any site."""
        return next((one.value for one in self._session.cookie_jar if one.key == name), None)


@asynccontextmanager
async def browser(env: Mapping[str, str], stop: str = "\0") -> AsyncIterator[Browser]:
    """A browser with nothing in it that trusts the simulated Azure."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=env["SSL_CERT_FILE"]))
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield Browser(session, env["HTTPS_PROXY"], stop)
