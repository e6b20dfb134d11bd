"""Words that people name columns and event types with: what a name says of the role of a column or of an event."""

from __future__ import annotations

import re

ROLES: dict[str, tuple[str, ...]] = {
    "user": (
        *(
            "user",
            "visitor",
            "customer",
            "member",
            "client",
            "account",
            "viewer",
            "shopper",
            "person",
            "uid",
            "profile",
        ),
        *("subscriber", "reviewer", "reader", "player", "buyer", "patient", "guest", "consumer", "author", "who"),
    ),
    "item": (
        *("item", "product", "sku", "article", "movie", "film", "video", "track", "song", "content", "post", "asin"),
        *("listing", "offer", "book", "game", "business", "place", "document", "doc", "story", "course", "recipe"),
        *("job", "podcast", "episode", "show", "restaurant", "hotel", "thing", "object", "page"),
    ),
    "type": (
        "event",
        "type",
        "action",
        "interaction",
        "behavior",
        "behaviour",
        "verb",
        "activity",
        "operation",
        "kind",
    ),
    "ts": ("ts", "timestamp", "datetime", "time", "date", "when", "occurred", "unixtime", "created", "at"),
    "value": (
        *("value", "rating", "stars", "score", "price", "amount", "revenue", "quantity", "qty", "dwell", "duration"),
        *("weight", "total"),
    ),
    "available_at": ("available", "ingested", "received", "loaded", "processed", "arrived"),
    "request_id": ("request", "impression", "slate", "response"),
    "session": ("session", "visit"),
    "slot": ("slot", "position", "rank", "pos", "placement"),
    "surface": ("surface", "screen", "channel"),
    "device": ("device", "platform"),
    "event_id": ("event",),
}
"""role → words, the likeliest first"""

_STEMS = {
    "shown": ("impression", "impress", "shown", "show", "display", "expose", "exposure", "served"),
    "passive": ("view", "pageview", "pv", "detail", "open", "seen", "browse", "visit", "play", "listen", "watch"),
    "down": (
        *("hide", "dislike", "skip", "report", "block", "mute", "downvote", "return", "refund", "cancel"),
        *("notinterested", "uninterested", "thumbsdown", "complain", "complaint", "spam", "reject"),
    ),
}
WEIGHTS = {
    **dict.fromkeys(("buy", "purchase", "transaction", "order", "pay", "book", "subscribe", "convert"), 20.0),
    **dict.fromkeys(("cart", "basket", "addtocart", "checkout", "apply", "enrol", "enroll"), 5.0),
    **dict.fromkeys(("share", "repost", "forward", "comment", "reply"), 8.0),
    **dict.fromkeys(("like", "favorite", "favourite", "fav", "save", "bookmark", "wishlist", "rate", "review"), 4.0),
    **dict.fromkeys(("click", "view", "play", "read", "open"), 1.0),
    **dict.fromkeys(("hide", "dislike", "skip", "report", "block", "return", "refund"), 8.0),
}
"""event word → a weight to begin with"""
_UNDO = re.compile(
    r"^(?:un|undo_?|remove_?(?:from_?)?|delete_?|cancel_?|revoke_?)(.+)$|^(.+?)_?(?:removed?|undone|cancell?ed)$"
)


def words_of(name: str) -> list[str]:
    """A name's words, lower case, without a typed header's ending and without `id`.

    >>> words_of("visitorId"), words_of("item_id:token"), words_of("addtocart"), words_of("userid")
    (['visitor'], ['item'], ['addtocart'], ['user'])
    """
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.partition(":")[0]).lower()
    words = [word for word in re.split(r"[^a-z0-9]+", text) if word and word not in ("id", "ids", "key", "the")]
    return [word[:-2] if word.endswith("id") and len(word) > 4 else word for word in words]


def role_rank(name: str, role: str) -> int | None:
    """How well a column's name says that role: 0 is best; None: it does not."""
    found = words_of(name)
    words = ROLES[role]
    ranks = [words.index(word) + 10 * (len(found) - 1) for word in found if word in words]
    return min(ranks) if ranks else None


def is_shown(event_type: str) -> bool:
    return _has(event_type, "shown")


def is_passive(event_type: str) -> bool:
    return _has(event_type, "shown") or _has(event_type, "passive")


def is_down(event_type: str) -> bool:
    """Whether the name is of something unwelcome."""
    return _has(event_type, "down")


def is_verb(event_type: str) -> bool:
    """Whether the name is of something that people do, as far as we know such names."""
    return is_passive(event_type) or is_down(event_type) or weight_of(event_type) is not None


def weight_of(event_type: str) -> float | None:
    squeezed = "".join(words_of(event_type))
    return next((WEIGHTS[w] for w in [*words_of(event_type), squeezed] if w in WEIGHTS), None)


def undone_type(event_type: str, known: set[str]) -> str | None:
    """Which of the known types this one takes back, by its name: unlike → like, remove_from_cart → add_to_cart."""
    found = _UNDO.match(event_type.lower())
    if found is None:
        return None
    stem = found[1] or found[2]
    folded = {re.sub(r"[^a-z0-9]+", "", name.lower()): name for name in sorted(known)}
    bare = re.sub(r"[^a-z0-9]+", "", stem)
    bare = bare if bare in folded else bare.removesuffix("d")
    candidates = [stem, bare, f"{bare}d", f"add{bare}", f"addto{bare}"]
    return next((folded[c] for c in candidates if c in folded and folded[c] != event_type), None)


def _has(event_type: str, group: str) -> bool:
    squeezed = "".join(words_of(event_type))
    stems = _STEMS[group]
    return squeezed in stems or any(
        w in stems or w.removesuffix("s").removesuffix("ed") in stems for w in words_of(event_type)
    )
