"""What ``plan`` and ``correlate`` print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rlhf_eval.cli.show import table
from rlhf_eval.cli.words import emit
from rlhf_eval.verbs.correlate import Correlated
from rlhf_eval.verbs.plan import Design


def designs(found: Sequence[Design], *, as_json: bool) -> None:
    """The designs side by side, the best one marked."""
    if as_json:
        for design in found:
            emit({"event": "design", **asdict(design)})
        return
    rows = [
        [
            f"{'> ' if d.best else '  '}{d.name}",
            f"{d.prompts:,}",
            f"{d.calls:,}",
            f"{d.expected_calls:,}",
            "no --price" if d.dollars is None else f"${d.dollars:,.2f}",
            f"{100 * d.effect:.1f} points",
            f"{d.power:.2f}",
        ]
        for d in found
    ]
    print(table(["  design", "prompts", "calls at most", "expected", "dollars", "smallest effect", "power"], rows))
    best = next(d for d in found if d.best)
    print(f"  next:    rlhf-eval evaluate winrate {best.flags} --limit {best.prompts}")


def correlations(found: Sequence[Correlated], *, as_json: bool) -> None:
    """Rank correlations of boards with the reference."""
    for c in found:
        rho, tau = c.result.spearman, c.result.kendall
        if as_json:
            about = {"judge": c.judge, "baseline": c.baseline, "models": len(c.models), "swapped": c.swapped}
            emit({"event": "correlation", **about, "spearman": asdict(rho), "kendall": asdict(tau)})
            continue
        print(f"\n{len(c.models)} models, win rate against {c.baseline}, judge {c.judge}")
        print(f"  Spearman {rho.value:.3f}  95 % [{rho.low:.3f}, {rho.high:.3f}]")
        print(f"  Kendall  {tau.value:.3f}  95 % [{tau.low:.3f}, {tau.high:.3f}]  {rho.note}")
        print(f"  {len(c.swapped)} pairs in opposite order" + "".join(f"; {a} and {b}" for a, b in c.swapped[:5]))
        print(f"  left out: {c.only_here} models only here, {c.only_there} only in the reference")
