"""A study small enough to run in a test: does choosing by gold beat choosing by chance?"""

from __future__ import annotations

TOY = """
title: a toy
question: Is gold a better chooser than chance?
page: A toy.
control: chance
seeds: 3
measures: {gold of the chosen: "evaluate/reward: chosen"}
line:
  load: {source: sandbox, limit: 6}
  generate: {model: "mock:writer", n: 3}
  judge: {judge: gold}
  pairs: {rule: top_per_prompt, control: false}
  evaluate: {benchmark: reward, model: chosen=run:pairs, judge: {judge: gold}}
arms:
  chance: {pairs: {rule: random_per_prompt}}
  gold: {}
quick: {seeds: 2, line: {load: {limit: 4}}}
minutes: {quick: 0.1, full: 2}
"""
