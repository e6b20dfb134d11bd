"""World: people, things and time, behind the API of a closed loop: who asks, what they do, what it was worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import replace

import numpy as np
import pyarrow as pa

from feedwell.core.clock import MINUTE, SECOND
from feedwell.core.errors import UsageError
from feedwell.core.rng import stream
from feedwell.data.world import noise
from feedwell.data.world.actions import HIDE, Actions, Mask
from feedwell.data.world.appeal import Appeal, Nature
from feedwell.data.world.catalog import Catalog, Creators, make_creators, make_topics
from feedwell.data.world.config import Action, WorldConfig
from feedwell.data.world.drift import Tastes, Trends
from feedwell.data.world.events import CREATOR, ITEM, USER, SessionRequest, WorldEvent, ids_of, row_of, rows_of
from feedwell.data.world.memory import FOREVER, Memory
from feedwell.data.world.noise import Float, Int
from feedwell.data.world.people import make_people
from feedwell.data.world.visits import Timetable, Visits

FIRST_VIEW = 300_000  # µs from the request to the first slot's exposure
PER_SLOT = 1_500_000  # µs from one slot's exposure to the next
DETACHED_S = 600.0  # an action that takes longer than this happens in another visit: no request, session or slot


class World:
    """One simulated world. Equal (config, seed) and equal calls give equal answers, bit for bit.

    Times must not run backwards over `respond`: people remember. Everything else may be asked in any order.
    """

    def __init__(self, config: WorldConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self._nature = _make_nature(config, seed)
        self._memory = Memory(config.n_users)
        self._appeal = Appeal(self._nature, self._memory)
        self._actions = Actions(config, seed, self._nature.catalog, self._memory)
        self._timetable = Timetable(config, seed, self._nature.people)
        self._roots = {name: noise.channel(seed, name) for name in ("examines", "comes", "goes on")}
        self._onboarding = list(self._first_follows())

    def fork(self) -> World:
        """A second world with the same past: from here on the two differ by what is served in them, and only by that.

        Costs nothing next to living that past again; `shift` of one does not reach the other.
        """
        twin = copy(self)
        twin._nature = replace(self._nature, tastes=deepcopy(self._nature.tastes))
        twin._memory = deepcopy(self._memory)
        twin._appeal = Appeal(twin._nature, twin._memory)
        twin._actions = Actions(self.config, self.seed, twin._nature.catalog, twin._memory)
        return twin

    def sessions(self, start_ts: int, end_ts: int) -> Iterator[SessionRequest]:
        """The requests of [start_ts, end_ts) in order of time.

        Lazy for a reason: whether a user comes back, or asks for the next page, depends on how satisfied the earlier
        answers left them, so respond to each request before taking the next one. Taken all at once, everybody is as
        content as then.
        """
        for day in self._timetable.days(start_ts, end_ts):
            visits = self._timetable.between(day)
            for row in np.flatnonzero((visits.ts_S >= start_ts) & (visits.ts_S < end_ts)):
                request = self._request(visits, int(row))
                if self._comes(request):
                    yield request

    def respond(self, request: SessionRequest, item_ids: Sequence[str]) -> list[WorldEvent]:
        """What the user does with the items, in the order of the slots: a `view` per examined slot, then the rest.

        Not sorted by time, and some lie in the future: see WorldEvent. Changes the user's memory.
        """
        user, rows_N = self._parse(request.user_id, item_ids, request.ts)
        if len(set(item_ids)) < len(item_ids):
            raise UsageError(f"responding to {request.request_id}: an item is in the slate twice, expected once")
        appeal_N = self._appeal(user, rows_N, request.ts)
        p_AN = self._actions.probabilities(user, rows_N, appeal_N, request.ts)
        examined_N = self._examines(user, len(rows_N), request.ts)
        done_AN = self._actions.draw(p_AN, user, rows_N, request.ts, examined_N)
        self._remember(user, rows_N, appeal_N, examined_N, request.ts)
        viewed_at_N = request.ts + FIRST_VIEW + PER_SLOT * np.arange(len(rows_N))
        seen = np.flatnonzero(examined_N).tolist()
        views = [_view(request, item_ids[slot], slot, int(viewed_at_N[slot])) for slot in seen]
        return views + list(self._deeds(request, user, rows_N, appeal_N, done_AN, viewed_at_N))

    def true_utility(self, user_id: str, item_ids: Sequence[str], ts: int) -> Float:
        """The expected reward (Σ action weights) of each item if examined at `ts`, shape N: an oracle's ranking.

        It knows everything, the mood of the hour and the user's memory included; the position plays no part.
        """
        user, rows_N = self._parse(user_id, item_ids, ts)
        return self._actions.expected_reward(
            self._actions.probabilities(user, rows_N, self._appeal(user, rows_N, ts), ts)
        )

    def examination(self, n: int) -> Float:
        """p(examined) of slots 1 ... n: the known curve of position bias."""
        floor = self.config.examine_floor
        curve_N: Float = floor + (1.0 - floor) * np.arange(1, n + 1, dtype=np.float64) ** -self.config.examine_steepness
        return curve_N

    def reward(self, events: Iterable[WorldEvent]) -> float:
        """Σ of the weights of what happened; an undo takes its action's weight back."""
        weights = {action.name: action.weight for action in self.config.actions}
        weights |= {action.undone_by: -action.weight for action in self.config.actions if action.undone_by}
        return sum(weights.get(event["type"], 0.0) for event in events)

    def shift(self, at_ts: int) -> None:
        """A regime change from `at_ts` on: every taste turns by the configuration's `shift_angle`."""
        self._nature.tastes.shift(at_ts)

    def onboarding(self) -> list[WorldEvent]:
        """The `follow` events of signing up; of those who signed up before the start, in its first hour."""
        return list(self._onboarding)

    def live_items(self, ts: int) -> list[str]:
        """Ids of the items that exist at `ts` and are not past the world's item life: what a policy may choose from."""
        return ids_of(ITEM, self.live_rows(ts))

    def live_rows(self, ts: int) -> Int:
        """The same as numbers, in order of arrival: 12 for "i12"."""
        return self._nature.catalog.live(ts)

    def catalog_items(self, until_ts: int) -> pa.Table:
        """The shown columns of the items created before `until_ts`."""
        return self._nature.catalog.table(until_ts)

    def catalog_users(self, until_ts: int | None = None) -> pa.Table:
        """The shown columns of the users who signed up before `until_ts`; of all users when None."""
        return self._nature.people.table(self.config, until_ts)

    def tastes(self, ts: int) -> Float:
        """Ground truth for tests and oracles: everyone's hidden taste at `ts`, shape U × D, rows of length one."""
        return self._nature.tastes.all_at(ts)

    def _parse(self, user_id: str, item_ids: Sequence[str], ts: int) -> tuple[int, Int]:
        user = row_of(USER, user_id, self.config.n_users)
        return user, rows_of(ITEM, item_ids, self._nature.catalog.arrived(ts))

    def _request(self, visits: Visits, row: int) -> SessionRequest:
        user, page = int(visits.user_S[row]), int(visits.page_S[row])
        session = f"{user}-{visits.day_S[row]}-{visits.number_S[row]}"
        surface = self.config.surfaces[visits.surface_S[row]]
        return SessionRequest(
            request_id=f"r{session}-{page}",
            session=f"s{session}",
            user_id=f"{USER}{user}",
            ts=int(visits.ts_S[row]),
            surface=surface.name,
            n=surface.n,
            page=page,
        )

    def _comes(self, request: SessionRequest) -> bool:
        """Thins the timetable: first pages by the user's lasting satisfaction, others by the last page's appeal."""
        user, memory = row_of(USER, request.user_id, self.config.n_users), self._memory
        if request.ts < self._nature.people.signup_at_U[user]:
            return False
        if request.page:
            root, p = self._roots["goes on"], 0.6 + 0.35 * float(np.tanh(memory.last_page_U[user]))
            comes = memory.open_page.get(user) == (request.session, request.page - 1)
        else:
            root, p = self._roots["comes"], 0.7 + 0.3 * float(np.tanh(memory.satisfaction_U[user]))
            comes = True
        comes = comes and noise.uniform_at(root, user, request.ts) < p
        if comes:
            memory.open_page[user] = (request.session, request.page)
        return comes

    def _examines(self, user: int, n: int, ts: int) -> Mask:
        """Users scroll from the top and stop: one luck per request, so the examined slots are a prefix."""
        return noise.uniform_at(self._roots["examines"], user, ts) < self.examination(n)

    def _remember(self, user: int, rows_N: Int, appeal_N: Float, examined_N: Mask, ts: int) -> None:
        """Exposures, and satisfaction: it follows appeal less bait, so baiting clicks loses visits later."""
        seen_N = rows_N[examined_N]
        if not len(seen_N):
            return
        bait_N = self._nature.catalog.items(ts).bait_N[seen_N]
        pleasure = float(np.mean(appeal_N[examined_N] - 0.5 * bait_N))
        self._memory.saw(user, seen_N, ts)
        self._memory.last_page_U[user] = pleasure
        self._memory.satisfaction_U[user] += 0.15 * (pleasure - self._memory.satisfaction_U[user])

    def _deeds(
        self, request: SessionRequest, user: int, rows_N: Int, appeal_N: Float, done_AN: Mask, viewed_at_N: Int
    ) -> Iterator[WorldEvent]:
        if not done_AN.any():
            return
        at_AN = self._actions.times(user, rows_N, request.ts, viewed_at_N)
        bait_N = self._nature.catalog.items(request.ts).bait_N[rows_N]
        for a, slot in np.argwhere(done_AN).tolist():
            action, item, at = self.config.actions[a], int(rows_N[slot]), int(at_AN[a, slot])
            thing = self._thing(action, item, request.ts)
            if action.once and self._memory.has(action.name, user, [thing], request.ts)[0]:
                continue  # the same creator, followed from another slot of this slate
            undo = self._actions.undo_after(action, user, item, request.ts)
            if action.once or action.name == HIDE:
                self._memory.did(action.name, user, thing, FOREVER if undo is None else at + undo)
            satisfaction = float(appeal_N[slot] - 0.5 * bait_N[slot])
            value = self._actions.value(action, user, item, request.ts, satisfaction)
            yield _deed(request, action, slot, thing, at, value)
            if undo is not None:
                yield _undo(request, action, slot, thing, at + undo)

    def _thing(self, action: Action, item: int, ts: int) -> int:
        return int(self._nature.catalog.items(ts).creator_N[item]) if action.object == "creator" else item

    def _first_follows(self) -> Iterator[WorldEvent]:
        """Whom people follow from the beginning: creators near their taste, rather popular ones."""
        people, rng = self._nature.people, stream(self.seed, "world", "onboarding")
        count_U = rng.poisson(self.config.follows_at_signup, len(people))
        delay_U = rng.integers(MINUTE, 60 * MINUTE, len(people))
        for user in np.flatnonzero(count_U).tolist():
            at = max(int(people.signup_at_U[user]), self.config.start_ts) + int(delay_U[user])
            for number, creator in enumerate(_nearest(rng, people.home_UD[user], self._nature.creators, count_U[user])):
                self._memory.did("follow", user, creator)
                yield _follow(user, creator, at + number * SECOND)


def _make_nature(config: WorldConfig, seed: int) -> Nature:
    topics_CD = make_topics(config, seed)
    creators = make_creators(config, seed, topics_CD)
    people = make_people(config, seed, topics_CD)
    return Nature(
        config=config,
        seed=seed,
        people=people,
        creators=creators,
        catalog=Catalog(config, seed, topics_CD, creators),
        tastes=Tastes(config, seed, people.home_UD),
        trends=Trends(config, seed),
    )


def _nearest(rng: np.random.Generator, home_D: Float, creators: Creators, n: int) -> list[int]:
    """n creators without replacement, p ∝ share × exp(2 · affinity), by Gumbel keys."""
    keys_M = np.log(creators.share_M) + 2.0 * creators.vector_MD @ home_D + rng.gumbel(size=len(creators))
    nearest: list[int] = np.argsort(-keys_M)[:n].tolist()
    return nearest


def _view(request: SessionRequest, item_id: str, slot: int, ts: int) -> WorldEvent:
    return WorldEvent(
        event_id=f"{request.request_id}.{slot + 1}.view",
        ts=ts,
        type="view",
        user=request.user_id,
        item=item_id,
        creator=None,
        session=request.session,
        request_id=request.request_id,
        slot=slot + 1,
        value=None,
        surface=request.surface,
    )


def _deed(
    request: SessionRequest,
    action: Action,
    slot: int,
    thing: int,
    ts: int,
    value: float | None,
    name: str | None = None,
) -> WorldEvent:
    kind = name or action.name
    here = name is None and action.delay_median_s <= DETACHED_S
    on_item = action.object == "item"
    return WorldEvent(
        event_id=f"{request.request_id}.{slot + 1}.{kind}",
        ts=ts,
        type=kind,
        user=request.user_id,
        item=f"{ITEM}{thing}" if on_item else None,
        creator=None if on_item else f"{CREATOR}{thing}",
        session=request.session if here else None,
        request_id=request.request_id if here else None,
        slot=slot + 1 if here else None,
        value=value,
        surface=request.surface,
    )


def _undo(request: SessionRequest, action: Action, slot: int, thing: int, ts: int) -> WorldEvent:
    return _deed(request, action, slot, thing, ts, None, name=action.undone_by)


def _follow(user: int, creator: int, ts: int) -> WorldEvent:
    return WorldEvent(
        event_id=f"onboarding.{user}.{creator}",
        ts=ts,
        type="follow",
        user=f"{USER}{user}",
        item=None,
        creator=f"{CREATOR}{creator}",
        session=None,
        request_id=None,
        slot=None,
        value=None,
        surface="onboarding",
    )
