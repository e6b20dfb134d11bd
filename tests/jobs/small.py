"""The plan of the small loop that the tests live."""

from feedwell.jobs.plan import Plan

SMALL = Plan(preset="news", factor=0.12, history_days=2, rounds=2, learn_from=40, judge_on=20)
SEED = 1003
