"""The plan of the small loop that the tests live."""

from feedwell.jobs.plan import Plan

SMALL = Plan(preset="news", factor=0.15, history_days=3, rounds=2, learn_from=50, judge_on=25)
SEED = 1003
