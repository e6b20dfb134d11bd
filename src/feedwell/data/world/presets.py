"""Three worlds, committed as data before the models that they judge.

Sizes are for a demo: about 60-100 thousand events in 21 days, a few seconds on one core; `preset(name, factor)` scales.
"""

from __future__ import annotations

from feedwell.core.errors import UsageError
from feedwell.data.world.config import Action, Surface, WorldConfig
from feedwell.data.world.words import MATERIALS

SOCIAL = WorldConfig(
    name="social",
    topics=("cooking", "travel", "music", "fitness", "gaming", "fashion", "science", "film"),
    surfaces=(Surface(name="home", share=0.8, n=10), Surface(name="explore", share=0.2, n=12)),
    actions=(
        Action(name="click", bias=-3.4, slope=0.9, bait=0.6, weight=1.0, value="dwell"),
        Action(name="like", after="click", bias=-2.9, slope=1.0, bait=-0.5, weight=4.0, once=True, delay_median_s=12.0,
               undone_by="unlike", undo_share=0.06),
        Action(name="share", after="click", bias=-4.6, slope=0.9, weight=8.0, delay_median_s=20.0),
        Action(name="hide", unless="click", bias=-5.0, slope=-0.9, bait=0.4, weight=-8.0, delay_median_s=3.0),
        Action(name="follow", after="like", bias=-2.6, slope=0.5, weight=6.0, once=True, object="creator",
               delay_median_s=15.0, undone_by="unfollow", undo_share=0.12, undo_median_s=3 * 86_400.0),
    ),
    n_creators=80,
    n_items_at_start=400,
    items_per_day=55.0,
    follows_at_signup=3.0,
    freshness_half_life_h=20.0,
    item_life_h=24.0 * 5,
    age_at_start_h=24.0 * 5,
)  # fmt: skip

SHOP = WorldConfig(
    name="shop",
    topics=("kitchen", "garden", "audio", "outdoor", "toys", "office", "beauty", "clothing"),
    openers=MATERIALS,
    surfaces=(Surface(name="home", share=0.6, n=12), Surface(name="category", share=0.4, n=12)),
    actions=(
        Action(name="click", bias=-3.0, slope=0.8, bait=0.3, weight=1.0, value="dwell"),
        Action(name="cart", after="click", bias=-2.9, slope=1.0, bait=-0.4, price=-0.4, weight=5.0, value="price",
               delay_median_s=45.0),
        Action(name="buy", after="cart", bias=-0.9, slope=0.6, price=-0.3, weight=20.0, once=True, value="price",
               delay_median_s=3 * 3_600.0, delay_sigma=1.2),
        Action(name="hide", unless="click", bias=-5.6, slope=-0.8, weight=-5.0, delay_median_s=4.0),
    ),
    n_creators=50,
    n_items_at_start=1_200,
    items_per_day=15.0,
    drift_per_day=0.03,
    trend_sigma=0.1,
    freshness_half_life_h=24.0 * 10,
    item_life_h=24.0 * 365,
    age_at_start_h=24.0 * 120,
    price_median=35.0,
    w_fresh=0.3,
    w_follow=0.0,
    w_price=0.35,
    w_fatigue=0.15,
    pages_mean=1.8,
)  # fmt: skip

NEWS = WorldConfig(
    name="news",
    topics=("politics", "economy", "sport", "climate", "health", "culture", "science", "travel"),
    surfaces=(Surface(name="front", share=0.85, n=10), Surface(name="email", share=0.15, n=6)),
    actions=(
        Action(name="click", bias=-3.3, slope=0.9, bait=0.7, weight=1.0, value="dwell"),
        Action(name="like", after="click", bias=-3.0, slope=0.9, bait=-0.6, weight=3.0, once=True, delay_median_s=40.0,
               undone_by="unlike", undo_share=0.05),
        Action(name="share", after="click", bias=-4.4, slope=1.0, weight=6.0, delay_median_s=60.0),
        Action(name="hide", unless="click", bias=-5.0, slope=-0.9, bait=0.5, weight=-6.0, delay_median_s=3.0),
    ),
    n_creators=25,
    n_items_at_start=150,
    items_per_day=65.0,
    n_segments=3,
    segment_strength=1.6,
    personal_strength=0.6,
    drift_per_day=0.12,
    drift_pull=0.04,
    trend_sigma=0.5,
    trend_memory=0.6,
    burst_share=0.08,
    w_trend=0.8,
    freshness_half_life_h=6.0,
    item_life_h=48.0,
    age_at_start_h=48.0,
    w_fresh=1.8,
    w_follow=0.0,
    sessions_per_day=0.95,
    pages_mean=1.4,
)  # fmt: skip

PRESETS: dict[str, WorldConfig] = {world.name: world for world in (SOCIAL, SHOP, NEWS)}


def preset(name: str, factor: float = 1.0) -> WorldConfig:
    """The named world, `factor` times the demo's size."""
    if name not in PRESETS:
        raise UsageError(f"opening a preset world: '{name}' is unknown, expected one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name].scaled(factor)
