"""In the sandbox, where the truth is known: selection gains gold reward, and labels are as right as the judge promises."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

import rlhf_eval
from rlhf_eval.verbs.flow import generate, judge
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.pairs import PairsResult, pairs
from rlhf_eval.verbs.session import Options, Session

pytest.importorskip("torch")
SANDBOX = Path(rlhf_eval.__file__).with_name("sandbox")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairsResult, PairsResult]:
    """Rejection sampling by gold, and pairs by the sandbox's own judge, over the same completions, with gold for truth."""
    session = Session(Options(store=tmp_path_factory.mktemp("sandbox") / "store", quiet=True, limit=30))

    async def line() -> None:
        load(session, {"source": "sandbox"})
        written = await generate(session, {"model": "sandbox:policy", "n": 4, "max_tokens": 48})
        source = {"completions": written.run.id}
        await judge(session, {"judge": "gold", **source})
        table = {"judge": "pairwise", "judge_model": "sandbox:judge", "matches": "ring:1", **source}
        await judge(session, table)
        await session.close()

    asyncio.run(line())
    judged, graded = session.store.runs("judge")[-1], session.store.runs("judge")[-2]
    top = pairs(session, {"rule": "top_per_prompt", "judgments": graded.id})
    return top, pairs(session, {"rule": "all_pairs", "judgments": judged.id, "truth_run": graded.id})


def promised(name: str) -> dict[str, float]:
    """What the judge's model card measured."""
    head = (SANDBOX / "judge" / "README.md").read_text().split("---")[1]
    rows = {row["name"]: row for row in yaml.safe_load(head)["measured"]}
    return dict(rows[name])


def test_the_best_of_n_beats_its_random_control_in_gold_reward(made: tuple[PairsResult, PairsResult]) -> None:
    top, _ = made
    gain = top.card.get("selected_minus_control")
    assert gain is not None
    assert gain.low > 0
    curve = [e.value for e in top.card.estimates if e.name == "best_of_n"]
    assert len(curve) == 3
    assert curve == sorted(curve)
    kept = top.card.get("kept_score")
    assert kept is not None
    assert kept.value > curve[-1] - 1e-9


def test_pair_labels_agree_with_gold_at_the_promised_rate(made: tuple[PairsResult, PairsResult]) -> None:
    _, labelled = made
    agreed, card = (
        labelled.card.get("agreement_with_truth"),
        promised("accuracy with both orders averaged, policy pairs"),
    )
    assert agreed is not None
    assert agreed.n >= 20
    assert agreed.low <= card["high"]
    assert agreed.high >= card["low"]
    assert agreed.low > 0.5
    flips, said = labelled.card.get("order_flips"), promised("verdict flips with the order, policy pairs")
    assert flips is not None
    assert flips.low <= said["high"]
    assert flips.high >= said["low"]
