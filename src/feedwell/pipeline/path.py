"""RequestPath: one release over the stores of one project: an outside wish in, a durable record and an answer out.

Every caller goes through it (HTTP, `recommend`, batch); only replay and evaluation bring a reader and a time.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from feedwell.core.assignment import CONTROL, assign, bucket
from feedwell.core.clock import Clock
from feedwell.core.errors import UsageError
from feedwell.core.event import MAX_ID_BYTES, NO_KEY, plain_id
from feedwell.core.project import Project
from feedwell.core.protocols import Filter
from feedwell.core.request import NO_KEYS, Keys
from feedwell.core.slate import SlateRecord
from feedwell.core.telemetry import Telemetry
from feedwell.pipeline.ask import Answer, Ask, Brought
from feedwell.pipeline.cursor import MAX_PAGES, read_cursor, write_cursor
from feedwell.pipeline.gather import Pace
from feedwell.pipeline.live import LiveCatalog
from feedwell.pipeline.overlays import Compiled
from feedwell.pipeline.served import ServedEvents

MAX_N = 1000
MAX_EXCLUDE = 1000
MAX_AMONG = 1000
SURFACE = re.compile(r"^[0-9A-Za-z_.-]{1,64}$")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A request as a caller outside words it: ids are strings, `cursor` continues a scroll.

    `among`: these items are ranked, best first, in place of what the sources would bring; `ignore_filters` names the
    filters ("seen") that this caller waives for them; `shown` False: the ranking is kept and is no exposure.
    """

    user_id: str
    n: int | None = None
    surface: str = "default"
    exclude: Sequence[str] = ()
    among: Sequence[str] | None = None
    ignore_filters: Sequence[str] = ()
    shown: bool = True
    cursor: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    explain: bool = False
    explore: bool = True
    request_id: str | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Served:
    """The answer with what a caller shows: `item_ids` per slot (None: forgotten) and the cursor of the next page.

    `cursor` is None on the last page that a scroll may have; `short` then says so. `unknown` are the items that the
    caller brought and that the log has never seen, as it wrote them: they are not ranked; `unknown_excluded` those that
    it excluded.
    """

    answer: Answer
    item_ids: tuple[str | None, ...]
    cursor: str | None
    unknown: tuple[str, ...] = ()
    unknown_excluded: tuple[str, ...] = ()

    @property
    def record(self) -> SlateRecord:
        return self.answer.record

    @property
    def short(self) -> str:
        """Why there is less than asked for, or nothing after this page; "" when neither."""
        return self.record.short or ("" if self.cursor else f"the scroll ends here: it has at most {MAX_PAGES} pages")


class Ids(Protocol):
    def lookup(self, entity: str, ids: Sequence[str]) -> Keys: ...
    def names(self, entity: str, keys: Sequence[int]) -> list[str | None]: ...


class Log(Protocol):
    @property
    def ids(self) -> Ids: ...
    def user_tail(self, user: int, after_offset: int) -> pa.Table: ...
    def catalog_events(self, entity: str, after_offset: int, upto_offset: int) -> pa.Table: ...


class Records(Protocol):
    def write(self, record: SlateRecord, trace: Mapping[str, Any] | None = None) -> None: ...
    def get(self, request_id: str) -> SlateRecord | None: ...


OpenReader = Callable[[], AbstractContextManager[Any]]
"""Opens a StateReader: its transaction begins at once, before any tail is read."""


class RequestPath:
    """Answers wishes with one release. `answer` is `prepare` (nothing written) and `keep` (durable)."""

    def __init__(
        self,
        *,
        compiled: Compiled,
        log: Log,
        open_reader: OpenReader,
        records: Records,
        clock: Clock,
        secret: bytes,
        served: ServedEvents | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.compiled = compiled
        self.log = log
        self.records = records
        self._open_reader = open_reader
        self._clock = clock
        self._secret = secret
        self.live = LiveCatalog(lambda: compiled.followers, compiled.project, telemetry)
        self._served = served if compiled.project.serving.log_served else None

    @property
    def project(self) -> Project:
        return self.compiled.project

    def answer(self, wish: Wish, pace: Pace | None = None) -> Served:
        """The answer; its record is durable when this returns. UsageError for a cursor that does not hold."""
        served = self.prepare(wish, pace)
        self.keep(served)
        return served

    def prepare(self, wish: Wish, pace: Pace | None = None) -> Served:
        """The answer before its record is written; it must not leave before `keep`."""
        check_wish(wish)
        wish = replace(wish, user_id=plain_id(wish.user_id))  # one arm and one scroll however a number is written
        earlier = read_cursor(self._secret, wish.user_id, wish.cursor) if wish.cursor else []
        exclude, unknown_excluded = self._known(wish.exclude)
        ask = replace(self._ask(wish, earlier, pace), exclude=exclude)
        unknown: tuple[str, ...] = ()
        if wish.among is not None:
            brought, unknown = self._brought(wish.among, wish)
            ask = replace(ask, brought=brought)
        # Before the state: what is put while this request waits must not be retrieved by one whose filters know it not.
        deltas = self.live.now
        with self._reader(ask.user) as reader:
            ask = replace(ask, t=max(self._clock.now(), reader.newest_at + 1), deltas=deltas)
            pipeline = self.compiled.pipeline(ask.surface, ask.assignments)
            _check_waived(wish.ignore_filters, pipeline.filters)
            answer = pipeline.run(ask, reader, pace)
        names = self.log.ids.names("item", answer.record.keys)
        cursor = write_cursor(self._secret, wish.user_id, [*earlier, ask.request_id])
        return Served(
            answer=answer,
            item_ids=tuple(names),
            cursor=cursor,
            unknown=unknown,
            unknown_excluded=unknown_excluded,
        )

    def follow_catalog(self) -> None:
        """Parts learn of the items that the state knows by now. Takes its time: never on a request's thread."""
        if self.live.followers:
            with self._open_reader() as reader:
                offset = reader.state_offset
            self.live.catch_up(self.log, offset)

    def keep(self, served: Served) -> None:
        """Writes the record, and the trace where there is one, durably; served events of what is shown follow later."""
        self.records.write(served.answer.record, served.answer.trace)
        if self._served is not None and served.record.shown:
            self._served.add(served.record, served.item_ids)

    @contextmanager
    def _reader(self, user: int) -> Iterator[Any]:
        """The state, then the user's unfolded tail: in that order, so that no event can fall between the two."""
        with self._open_reader() as reader:
            tail = None if user == NO_KEY else self.log.user_tail(user, reader.state_offset)
            yield reader if tail is None or not tail.num_rows else reader.with_tail(tail)

    def _ask(self, wish: Wish, earlier: Sequence[str], pace: Pace | None) -> Ask:
        request_id = wish.request_id or new_request_id()
        ids = self.log.ids
        sampled = bucket(request_id, "trace") < self.project.serving.trace_share
        return Ask(
            user_id=wish.user_id,
            request_id=request_id,
            t=0,
            user=int(ids.lookup("user", [wish.user_id])[0]),
            n=wish.n,
            surface=wish.surface,
            exclude=NO_KEYS,
            prefix=self._shown(earlier),
            context=wish.context,
            assignments=assignments_of(self.project, wish.user_id),
            explore=wish.explore,
            trace=wish.explain or sampled,
            deadline_ms=wish.deadline_ms,
            width=1.0 if pace is None else pace.budget.width.value,
        )

    def _brought(self, among: Sequence[str], wish: Wish) -> tuple[Brought, tuple[str, ...]]:
        """The caller's items as keys in its order, each once; and those that have no key."""
        keys_N, unknown = self._known(among)
        brought = Brought(
            keys_N=keys_N,
            n_unknown=len(unknown),
            n_duplicates=len(among) - len(keys_N) - len(unknown),
            ignore_filters=tuple(f"filter.{name}" for name in dict.fromkeys(wish.ignore_filters)),
            shown=wish.shown,
        )
        return brought, unknown

    def _known(self, item_ids: Sequence[str]) -> tuple[Keys, tuple[str, ...]]:
        """The items' keys in order, each once; and the ids that have none, as the caller wrote them first."""
        written: dict[str, str] = {}
        for name in item_ids:
            written.setdefault(plain_id(name), name)
        keys_N = self.log.ids.lookup("item", list(written)) if written else NO_KEYS
        unknown = tuple(name for name, key in zip(written.values(), keys_N, strict=True) if key == NO_KEY)
        return keys_N[keys_N != NO_KEY], unknown

    def _shown(self, earlier: Sequence[str]) -> Keys:
        """What the earlier pages held, in order, each once; a record that is gone holds nothing any more."""
        records = [self.records.get(request_id) for request_id in earlier]
        keys = dict.fromkeys(key for record in records if record is not None for key in record.keys)
        return np.fromiter(keys, np.int64, len(keys))


def check_wish(wish: Wish) -> None:
    """UsageError says what no caller may ask, by HTTP, by the command line or from Python."""
    _check_id("user_id", wish.user_id)
    if wish.n is not None and (type(wish.n) is not int or not 1 <= wish.n <= MAX_N):
        raise UsageError(f"n must be a whole number from 1 to {MAX_N}, not {wish.n!a:.60}")
    surface: object = wish.surface
    if not isinstance(surface, str) or not SURFACE.fullmatch(surface):
        raise UsageError(f"surface must be 1 to 64 letters, digits, '_', '-' or '.', not {surface!a:.60}")
    if len(wish.exclude) > MAX_EXCLUDE:
        raise UsageError(f"exclude has {len(wish.exclude)} ids: at most {MAX_EXCLUDE}")
    for item in wish.exclude:
        _check_id("exclude", item)
    _check_among(wish)


def _check_among(wish: Wish) -> None:
    if wish.among is None:
        if wish.ignore_filters:
            raise UsageError("ignore_filters goes only with items that the caller brings; a feed keeps to its filters")
        if not wish.shown:
            raise UsageError("shown goes only with items that the caller brings; a feed counts as shown")
        return
    if isinstance(wish.among, str):
        raise UsageError(f"items: a list of ids, not the text {wish.among!a:.60}")
    if len(wish.among) > MAX_AMONG:
        raise UsageError(f"items has {len(wish.among)} ids: at most {MAX_AMONG}")
    for item in wish.among:
        _check_id("items", item)


def _check_waived(names: Sequence[str], filters: Mapping[str, Filter]) -> None:
    declared = sorted(name.removeprefix("filter.") for name in filters)
    for name in names:
        if name not in declared:
            there = ", ".join(declared) or "none"
            raise UsageError(f"ignore_filters: the project declares no filter {name!a:.60}; there are {there}")


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(f"{name}: an id is a text, not {value!a:.60} of type {type(value).__name__}")
    if not value:
        raise UsageError(f"{name}: an id must not be empty")
    try:
        n_bytes = len(value.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{name}: an id must be valid UTF-8, not {value!a:.60}") from None
    if n_bytes > MAX_ID_BYTES:
        raise UsageError(f"{name}: an id has at most {MAX_ID_BYTES} bytes of UTF-8, not {n_bytes}")


def assignments_of(project: Project, user_id: str) -> dict[str, str]:
    """experiment → the user's arm; users outside every arm are in `control`."""
    found = {}
    for name, section in project.experiment.items():
        each = section.share / len(section.arms)
        found[name] = assign(user_id, name, dict.fromkeys(section.arms, each)) if section.arms else CONTROL
    return found


def new_request_id() -> str:
    """128 random bits in hex: unique without asking anyone."""
    return secrets.token_hex(16)
