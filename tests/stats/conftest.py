"""Readers of the published comparisons."""

from __future__ import annotations

import csv

import pytest


@pytest.fixture
def evalica(groundtruth):
    """``read(name)`` gives the columns of a set of comparisons, ``golden(name, algorithm)`` the published scores."""

    class Evalica:
        @staticmethod
        def read(name):
            with (groundtruth / "evalica" / f"{name}.csv").open() as file:
                rows = list(csv.DictReader(file))
            score = {"left": 1.0, "tie": 0.5, "right": 0.0}
            prompts = [r["prompt"] for r in rows] if "prompt" in rows[0] else None
            return [r["left"] for r in rows], [r["right"] for r in rows], [score[r["winner"]] for r in rows], prompts

        @staticmethod
        def golden(name, algorithm):
            with (groundtruth / "evalica" / f"{name}-golden.csv").open() as file:
                return {r["item"]: float(r["score"]) for r in csv.DictReader(file) if r["algorithm"] == algorithm}

    return Evalica
