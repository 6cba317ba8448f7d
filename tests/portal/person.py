"""What a person does in the browser: goes to a page, fills in its form, presses a button."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from urllib.parse import urlencode

import httpx

__all__ = ["PASSWORD", "Person", "notice", "rows"]

PASSWORD = "correct horse battery"
_Fields = Mapping[str, str | list[str]]


class Person:
    """One browser."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers={"accept-language": "en", **headers})

    async def post(
        self, path: str, fields: _Fields | None = None, *, csrf: str | None = None, **headers: str
    ) -> httpx.Response:
        """Send a form, with the token of the session as its page has it."""
        sent = {**(fields or {})}
        token = await self.csrf() if csrf is None else csrf
        if token:
            sent["csrf"] = token
        return await self.client.post(path, data=sent, headers={"accept-language": "en", **headers})

    async def upload(self, data: bytes, name: str = "codes.csv", **fields: str) -> httpx.Response:
        sent = {"csrf": await self.csrf(), **fields}
        files = {"file": (name, data, "text/csv")}
        return await self.client.post("/codes/import", data=sent, files=files)

    async def log_in(self, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
        return await self.post("/login", {"name": name, "password": password, **more}, csrf="")

    async def csrf(self) -> str:
        found = re.search(r'name="csrf" value="(\w*)"', (await self.get("/password")).text)
        return found[1] if found else ""

    async def versioned(self, what: str, **view: object) -> str:
        """Return the version in the form of a line or a panel."""
        answer = await self.get(f"/codes?{urlencode({**view, **dict([what.split('=')])})}")
        found = re.search(r'name="version" value="(\d+)"', answer.text)
        assert found, answer.text
        return found[1]


def notice(answer: httpx.Response) -> str:
    """Return what the page says has happened."""
    return " | ".join(
        unescape(text) for text in re.findall(r'class="notice[^"]*"[^>]*>([^<]*)<', answer.text)
    )


def rows(answer: httpx.Response) -> list[list[str]]:
    """Return the cells of the list's lines."""
    body = answer.text.partition('id="list"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    found = []
    for line in re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", line, re.DOTALL)
        found.append([unescape(" ".join(re.sub(r"<[^>]*>", " ", cell).split())) for cell in cells])
    return found
