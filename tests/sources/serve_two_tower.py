"""What a server does with an artifact, for a process that must not load torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from feedwell.core import registry
from feedwell.core.protocols import Setting
from feedwell.core.request import History, Request, UserSide


def answer(folder: str) -> list[int]:
    two_tower = registry.find("source", "two_tower")
    setting = Setting(
        name="source.two_tower", event_types=("view",), item_text=("title",), user_columns=("taste",), embedders={}
    )
    config = two_tower.Config(embedding_dim=16, hidden_dim=16, history=10, k=10)
    part = two_tower(config, setting)
    part.load(Path(folder))
    keys_L = np.array([1, 5, 9], np.int64)
    at_L = 1_700_000_000_000_000 - 3_600_000_000 - np.array([2, 1, 0]) * 60_000_000
    history = History(keys_L=keys_L, at_L=at_L, type_L=np.zeros(3, np.int16))
    side = UserSide(histories={part.needs[0]: history}, features={"user.taste": 1.0})
    return part(Request(request_id="", user_id="", t=1_700_000_000_000_000, n=10, side=side)).keys_N.tolist()
