"""Topic words: item titles are drawn from them, and each word also moves the item's hidden vector a little."""

from __future__ import annotations

_LISTS = {
    "cooking": "noodles sourdough curry roast ferment pastry broth grill vegan spice",
    "travel": "harbour night-train hostel island border backpack ruins ferry desert market",
    "music": "vinyl synth chorus remix ballad drums opera festival guitar lyrics",
    "fitness": "marathon kettlebell yoga sprint recovery climbing stretch cycling swim squat",
    "gaming": "speedrun roguelike pixel raid console arcade modding puzzle boss co-op",
    "fashion": "denim runway vintage sneaker tailor linen layering silhouette knit leather",
    "science": "quasar enzyme glacier neuron fossil telescope isotope genome plasma reef",
    "film": "thriller director sequel festival-cut western remake noir animation score premiere",
    "politics": "coalition ballot minister treaty reform scandal budget debate senate protest",
    "economy": "inflation merger tariff startup bonds wages housing exports rates pension",
    "sport": "derby transfer final penalty record coach stadium relay league upset",
    "climate": "heatwave flood carbon drought wind-farm wildfire storm emissions forest grid",
    "health": "vaccine clinic sleep trial outbreak nutrition surgery allergy therapy screening",
    "culture": "exhibition novel museum theatre archive prize sculpture memoir poetry gallery",
    "kitchen": "skillet kettle knife blender teapot scale toaster whisk oven-dish grinder",
    "garden": "trowel planter hose seeds shears trellis compost lantern bench rake",
    "audio": "headphones speaker turntable microphone earbuds amplifier soundbar cable dac radio",
    "outdoor": "tent rucksack lantern-kit stove boots hammock compass flask poles jacket",
    "toys": "blocks puzzle-set kite train-set plush marbles robot drum-kit crayons scooter",
    "office": "desk lamp notebook chair monitor-arm keyboard shelf pen-set planner mouse",
    "beauty": "serum balm shampoo perfume brush-set cleanser mask lotion razor lipstick",
    "clothing": "parka jeans cardigan dress socks scarf shirt shorts belt raincoat",
}
TOPIC_WORDS: dict[str, tuple[str, ...]] = {topic: tuple(words.split()) for topic, words in _LISTS.items()}

# What comes before the two topic words of a title: a feed's headlines, a shop's wares.
EDITORIAL: tuple[str, ...] = (
    "the quiet", "a field guide to", "inside", "why we love", "notes on", "the last", "a better", "the secret of",
    "first look:", "how to choose", "everyday", "beyond",
)  # fmt: skip
MATERIALS: tuple[str, ...] = (
    "steel", "oak", "compact", "folding", "classic", "recycled", "travel", "matte", "large", "mini",
)  # fmt: skip
