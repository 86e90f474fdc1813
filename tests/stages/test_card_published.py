"""Cards of pairs built from published judgments of real models: the known effects must show."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from generators import all_pairs, best_worst
from rlhf_eval.interop import alpaca_eval, autoj, pandalm
from rlhf_eval.interop.loaded import Loaded
from rlhf_eval.stages.card import card_of
from rlhf_eval.stages.matrix import tabulate
from rlhf_eval.stages.pairs import Selection, account, run_rule
from rlhf_eval.stages.sheet import Sheet, sheet_of

pytestmark = pytest.mark.groundtruth


def pairs_of(loaded: Loaded, judge: str) -> Selection:
    mine = [j for j in loaded.judgments if j.judge == judge]
    asked = {j.prompt_id for j in mine}
    book = tabulate([p for p in loaded.prompts if p.id in asked], loaded.completions, mine)
    selection = run_rule(book, all_pairs, all_pairs.Config(), "all_pairs")
    assert sum(account(selection.outcomes).values()) == len(book.prompts)
    return selection


def test_alpaca_eval_prefers_longer_answers(groundtruth: Path) -> None:
    selection = pairs_of(alpaca_eval.read(groundtruth / "alpaca_eval"), "alpaca_eval/weighted_alpaca_eval_gpt4_turbo")
    met = [p for p in selection.pairs if len(p.judgment_ids) == 1]
    assert len(met) > 2000
    some = met[:: len(met) // 800]
    card = card_of(sheet_of(some), name="alpaca_eval")
    auc, longer = card.get("length_auc"), card.get("chosen_longer")
    assert auc is not None
    assert longer is not None
    assert longer.low > 0.5
    assert auc.low > 0.5
    assert sum(count for _, _, count in card.matrix) == len(some)


@pytest.mark.parametrize(("reader", "folder"), [(pandalm, "PandaLM"), (autoj, "prometheus-eval")])
def test_pairs_come_from_other_published_sets(reader: ModuleType, folder: str, groundtruth: Path) -> None:
    loaded: Loaded = reader.read(groundtruth / folder)
    judges = sorted({j.judge for j in loaded.judgments})
    for judge in judges:
        selection = pairs_of(loaded, judge)
        assert selection.pairs, judge
        assert all(p.probability > 0.5 for p in selection.pairs)


def test_preference_tuned_answers_are_longer_by_the_published_factor(groundtruth: Path) -> None:
    library = json.loads((groundtruth / "rlhf-book" / "library.json").read_text())
    everything, ratios = Sheet(), {}
    for pair in library["model_pairs"]:
        sheet = Sheet()
        for prompt in library["prompts"]:
            written = library["completions"][str(prompt["prompt_id"])][pair["pair_id"]]
            for tuned, base in zip(written["rlhf"], written["sft"], strict=True):
                for one in (sheet, everything):
                    one.add(
                        prompt["display_text"],
                        tuned["text"],
                        base["text"],
                        models=(pair["rlhf_model"], pair["sft_model"]),
                    )
        ratio = card_of(sheet, name=pair["pair_id"]).get("length_ratio")
        assert ratio is not None
        ratios[pair["pair_id"]] = round(ratio.value, 2)
    assert len(ratios) == 9
    assert min(ratios.values()) == pytest.approx(1.46, abs=0.01)
    assert max(ratios.values()) == pytest.approx(2.36, abs=0.01)
    card = card_of(everything, name="library")
    assert any("the longer answer wins" in w for w in card.warnings)
    more = card.get("chosen_more_markup")
    assert more is not None
    assert more.low > 0.5


def test_rules_on_real_judgments_account_for_every_prompt(groundtruth: Path) -> None:
    loaded = alpaca_eval.read(groundtruth / "alpaca_eval")
    judge = "alpaca_eval/weighted_alpaca_eval_gpt4_turbo"
    book = tabulate(loaded.prompts, loaded.completions, [j for j in loaded.judgments if j.judge == judge])
    selection = run_rule(book, best_worst, best_worst.Config(), "best_worst")
    counts = account(selection.outcomes)
    assert sum(counts.values()) == 805
    assert counts["pair"] > 600
