"""The simulated world: a wind tunnel with known truth, and the demo's data where the user has none (and says so).

    history = simulate_history(preset("social"), seed=1)   # the log of a popular-with-exploration policy
    world = World(preset("shop"), seed=1)                  # the closed loop: sessions → your slates → respond

What a log or a catalog table shows: the events, the slates with their propensities, title, category, creator, price,
creation time; age group, country, signup. **What is hidden**, and so not learnable to the end:

- people: taste vector and its drift, segment (60 % of it shows in the age group, 30 % in the country), price
  sensitivity, activity, satisfaction, and the mood of the hour;
- items: quality, clickbait (draws clicks, shortens dwell, costs likes and later visits), gravity where there are no
  prices, and the part of the vector that topic, title words and creator do not show;
- time: trends per topic, and regime changes (`world.shift`);
- interactions that no built-in model has: gravity (or price) counts only beyond a threshold of mood, and segment × time
  of day × topic is a table without structure.

What is simpler than life: examination depends on the slot alone; users do not talk to each other; creators do not
react to what is served; there are no notifications yet; `view` marks what was truly examined, which real logs only
approximate.

Two arms of a comparison are two `World`s of one (config, seed): whatever is asked, the same user meets the same luck
with the same item at the same time. They differ by what their policies did to memory, follows and satisfaction, and
only by that.
"""

from feedwell.data.world.config import Action, Surface, WorldConfig
from feedwell.data.world.events import SessionRequest, WorldEvent
from feedwell.data.world.history import WorldHistory, record_history, simulate_history
from feedwell.data.world.policies import Chosen, OraclePolicy, Policy, PopularPolicy, RandomPolicy
from feedwell.data.world.presets import PRESETS, preset
from feedwell.data.world.world import World

__all__ = [
    "PRESETS",
    "Action",
    "Chosen",
    "OraclePolicy",
    "Policy",
    "PopularPolicy",
    "RandomPolicy",
    "SessionRequest",
    "Surface",
    "World",
    "WorldConfig",
    "WorldEvent",
    "WorldHistory",
    "preset",
    "record_history",
    "simulate_history",
]
