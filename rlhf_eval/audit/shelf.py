"""The judge cards that audits have left in a store, and the one line that stands beside every result of a judge.

card_of(store, "pairwise/sandbox:judge#d8e73a46")
reputation(store, judge)
"""

from __future__ import annotations

from rlhf_eval.audit.card import JudgeCard, from_json, summary
from rlhf_eval.audit.evidence import role
from rlhf_eval.errors import UserError
from rlhf_eval.records import Run
from rlhf_eval.store.runs import Store

CARD_JSON, CARD_MARKDOWN = "card.json", "card.md"


def cards(store: Store) -> dict[str, JudgeCard]:
    """The newest card of every judge, a finished audit's before another's; ``card.run`` is where it lies."""
    found = (read_card(store, run) for run in _audits(store))
    return {card.judge: card for card in found if card is not None}


def card_of(store: Store, judge: str) -> JudgeCard | None:
    """The newest card of the judge of exactly this name; None where it was never audited."""
    audits = (run for run in reversed(_audits(store)) if run.config.get("judge") == judge)
    return next((card for run in audits if (card := read_card(store, run)) is not None), None)


def read_card(store: Store, run: Run) -> JudgeCard | None:
    """The card that lies in a run's folder; None where there is none, or it cannot be read, which the store then names."""
    path = store.folder(run.id) / CARD_JSON
    try:
        return from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, UserError) as error:
        store.note(f"{path}: skipped, {error}")
        return None


def reputation(store: Store, judge: str) -> str:
    """The summary of a judge's card; or that others are measured by it; or empty, for nobody has measured it."""
    if role(judge):
        return "what the other judges are measured by"
    card = card_of(store, judge)
    return summary(card) if card is not None else ""


def _audits(store: Store) -> list[Run]:
    return sorted(store.runs("audit"), key=lambda run: (run.status == "done", run.id))
