"""What ``parity`` prints: one table a peer, what is not here in one line a reason, and the account at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby

from rlhf_eval.cli.show import table
from rlhf_eval.cli.words import emit
from rlhf_eval.parity.claim import Claim


def parity(claims: Iterable[Claim], *, as_json: bool) -> Counter[str]:
    """Print claims as they are decided; returns how many ended in each verdict."""
    verdicts: Counter[str] = Counter()
    for peer, group in groupby(claims, key=lambda claim: claim.peer):
        found = list(group)
        verdicts.update(claim.verdict for claim in found)
        if as_json:
            for claim in found:
                emit(_row(claim))
        else:
            print(f"\n{peer}")
            _table([claim for claim in found if claim.verdict != "not here"])
            _not_here([claim for claim in found if claim.verdict == "not here"])
    _account(verdicts, as_json=as_json)
    return verdicts


def _row(claim: Claim) -> dict[str, object]:
    names = ("peer", "subject", "number", "published", "ours", "difference", "tolerance", "verdict", "source", "note")
    return {"event": "claim", **{name: getattr(claim, name) for name in names}}


def _table(claims: list[Claim]) -> None:
    head = ["  whose", "number", "published", "ours", "difference", "tolerance", "verdict"]
    rows = [
        [
            f"  {claim.subject}",
            claim.number,
            _number(claim.published),
            _number(claim.ours),
            f"{claim.difference:.1e}" if claim.difference else "0",
            f"{claim.tolerance:.2g}",
            claim.verdict + (f": {claim.note}" if claim.verdict == "known fault" else ""),
        ]
        for claim in claims
    ]
    if rows:
        print(table(head, rows))


def _not_here(claims: list[Claim]) -> None:
    reasons = Counter((claim.number, claim.note) for claim in claims)
    for (number, note), count in reasons.items():
        named = [claim.subject for claim in claims if (claim.number, claim.note) == (number, note)]
        whose = f"{named[0]} and {count - 1:,} more" if count > 1 else named[0]
        print(f"  not here: {number} of {whose}: {note}")


def _account(verdicts: Counter[str], *, as_json: bool) -> None:
    counts = {"same": verdicts["same"], "missed": verdicts["MISS"], "known_fault": verdicts["known fault"]}
    counts["not_here"] = verdicts["not here"]
    if as_json:
        emit({"event": "parity", **counts})
        return
    faults = f", {counts['known_fault']:,} known to be wrong upstream" if counts["known_fault"] else ""
    print(
        f"\n{counts['same']:,} published numbers derived again, {counts['missed']:,} missed{faults}; "
        f"{counts['not_here']:,} could not be checked because their files are not here"
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.12g}"
