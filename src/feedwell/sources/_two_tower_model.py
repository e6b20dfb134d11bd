"""What a training of two_tower leaves, and its artifact: arrays as safetensors, the rest as JSON.

I items, D embedding
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedwell.core.errors import CorruptArtifact
from feedwell.nn.curves import Curves
from feedwell.sources._shelf import Shelf
from feedwell.sources._towers import Columns, Ints, Towers
from feedwell.stores.arrays import load_arrays, require_format, save_arrays

_ARRAYS, _META = "two_tower.safetensors", "two_tower.json"
_NAMES = ("keys", "at", "ids", "vectors", "history", "importance")
_WEIGHT = "weight."
_FORMAT = 3
"""Of the formulas and the files: 2 has an item say the same in a history and when it is looked for; 3 has the time of
each item's catalog row."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """`id_I`: the row of each item's own embedding; 0: it was not seen often enough to have one."""

    shelf: Shelf
    id_I: Ints
    towers: Towers
    items: Columns
    users: Columns
    catalog_offset: int


def save_model(folder: Path, model: Model, curves: Curves) -> None:
    """Equal trainings make equal files."""
    shelf = model.shelf
    arrays: dict[str, NDArray[Any]] = {
        "keys": shelf.keys_M,
        "at": shelf.at_M,
        "ids": model.id_I,
        "vectors": shelf.vectors_MD,
        "history": shelf.history_MD,
        "importance": shelf.importance_M,
    }
    arrays |= {_WEIGHT + name: value for name, value in model.towers.weights.items()}
    arrays |= model.items.arrays("item") | model.users.arrays("user")
    save_arrays(folder / _ARRAYS, arrays)
    meta = {
        "format": _FORMAT,
        "shapes": {name: list(value.shape) for name, value in sorted(arrays.items())},
        "catalog_offset": model.catalog_offset,
        "temperature": model.towers.temperature,
        "item": [model.items.numbers, model.items.categories],
        "user": [model.users.numbers, model.users.categories],
        # How long it took is no property of the weights.
        "curves": replace(curves, wall_s=0.0).to_dict(),
    }
    (folder / _META).write_text(json.dumps(meta), encoding="utf-8")


def load_model(folder: Path) -> tuple[Model, Curves]:
    """CorruptArtifact: a file is missing or damaged, they are of two trainings, or of another version of feedwell."""
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        require_format(folder / _META, meta, _FORMAT)
        arrays = load_arrays(folder / _ARRAYS, _NAMES)
        if meta["shapes"] != {name: list(value.shape) for name, value in arrays.items()}:
            raise CorruptArtifact(f"reading {folder / _ARRAYS}: not the arrays of {folder / _META}; train again")
        items, users = (_columns(side, meta[side], arrays) for side in ("item", "user"))
        weights = {name.removeprefix(_WEIGHT): a for name, a in arrays.items() if name.startswith(_WEIGHT)}
        model = Model(
            shelf=Shelf(
                keys_M=arrays["keys"].astype(np.int64),
                at_M=arrays["at"].astype(np.int64),
                vectors_MD=arrays["vectors"].astype(np.float32),
                history_MD=arrays["history"].astype(np.float32),
                importance_M=arrays["importance"].astype(np.float32),
            ),
            id_I=arrays["ids"].astype(np.int64),
            towers=Towers(weights=weights, temperature=float(meta["temperature"])),  # type: ignore[arg-type]
            items=items,
            users=users,
            catalog_offset=int(meta["catalog_offset"]),
        )
        return model, Curves.from_dict(meta["curves"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifact(f"reading {folder / _META}: {error!r}; train again") from error


def _columns(side: str, names: tuple[list[str], list[str]], arrays: dict[str, NDArray[Any]]) -> Columns:
    numbers, categories = names
    return Columns.of(side, numbers, categories, arrays)
