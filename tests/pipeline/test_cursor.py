from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedwell.core.errors import UsageError
from feedwell.pipeline.cursor import MAX_PAGES, read_cursor, secret_of, write_cursor

from .conftest import Shop

SECRET = b"0" * 32


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.text("0123456789abcdef"), max_size=MAX_PAGES - 1))
def test_what_is_written_is_read(user: str, ids: list[str]) -> None:
    cursor = write_cursor(SECRET, user, ids)
    assert cursor is not None
    assert read_cursor(SECRET, user, cursor) == ids


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    raw = bytearray(base64.urlsafe_b64decode(f"{write_cursor(SECRET, 'u', ['r1', 'r2'])}=="))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UsageError, match="cursor"):
        read_cursor(SECRET, "u", base64.urlsafe_b64encode(raw).decode().rstrip("="))


@pytest.mark.parametrize("cursor", ["", "a", "!!!!", "é", "AAAA", "x" * 4001])
def test_nonsense_is_refused(cursor: str) -> None:
    with pytest.raises(UsageError, match="cursor"):
        read_cursor(SECRET, "u", cursor)


def test_another_users_or_projects_cursor_is_refused() -> None:
    cursor = write_cursor(SECRET, "u", ["r"])
    assert cursor is not None
    with pytest.raises(UsageError, match="another user"):
        read_cursor(SECRET, "v", cursor)
    with pytest.raises(UsageError, match="signature"):
        read_cursor(b"1" * 32, "u", cursor)


def test_one_secret_per_project_readable_by_its_owner_only(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: secret_of(tmp_path / "x"), range(32)))
    assert len(found) == 1
    assert len(found.pop()) == 32
    assert stat.S_IMODE((tmp_path / "x" / "secret").stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["secret"]


def test_a_scroll_shows_nothing_twice_and_ends(shop: Shop) -> None:
    cursor, seen, pages = None, [], 0
    while True:
        served = shop.ask("nobody", n=7, cursor=cursor)
        if not served.item_ids:
            break
        assert served.record.prefix == seen
        seen += served.record.keys
        cursor, pages = served.cursor, pages + 1
    assert len(seen) == len(set(seen)) == 30
    assert pages == 5


def test_a_scroll_at_its_maximum_ends_instead_of_repeating(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cursor", "path"):
        monkeypatch.setattr(f"feedwell.pipeline.{module}.MAX_PAGES", 3)
    pages = [shop.ask("nobody", n=2)]
    while pages[-1].cursor:
        pages.append(shop.ask("nobody", n=2, cursor=pages[-1].cursor))
    assert len(pages) == 3
    assert "at most 3 pages" in pages[-1].short
    assert pages[-2].short == ""
    seen = [key for page in pages for key in page.record.keys]
    assert len(seen) == len(set(seen)) == 6


def test_slots_go_on_counting_so_that_later_pages_do_not_explore_again(shop: Shop) -> None:
    first = shop.ask("nobody", n=6)
    second = shop.ask("nobody", n=6, cursor=first.cursor)
    assert second.record.propensity == [1.0] * 6
