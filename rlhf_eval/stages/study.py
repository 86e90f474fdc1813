"""A study: one line of verbs, arms that change something in it, seeds, and a control that the arms are compared with.

The unit of every interval is the seed: another draw of prompts, samples, labels and initial weights. Arms are compared on
the same seeds.

    estimates = [*compared(study, observed), *curved(study, observed)]
    figure, page = drawn(study, estimates), written(study, estimates)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from typing import Any

from rlhf_eval.errors import nearest
from rlhf_eval.figures import Curve, Mark, Row, curves, dots, stacked
from rlhf_eval.records import Estimate
from rlhf_eval.stats.best_of_n import Form, fit_overoptimization, overoptimization
from rlhf_eval.stats.intervals import Interval, mean_interval

FIGURE = "figure.svg"
"""The figure's name beside the page that shows it."""
NEAREST = 0.3
"""Shorter distances take no part in an rl fit, which is infinitely steep at 0 (arXiv 2210.10760)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    """What ``--quick`` makes smaller: seconds instead of an hour, and intervals to match."""

    seeds: int = 2
    """Seeds of the quick version."""
    line: dict[str, Any] = field(default_factory=dict)
    """Laid over the line of every arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A question, the line that answers it, and the arms that differ."""

    title: str
    """What the study is called in tables and figures."""
    question: str
    """What is asked, in one sentence."""
    line: dict[str, Any]
    """The tables of a recipe, shared by the arms."""
    arms: dict[str, dict[str, Any]]
    """Arm to what it lays over the line; a table set to null is left out."""
    control: str
    """The arm that the others are compared with."""
    against: dict[str, str] = field(default_factory=dict)
    """Arms that are compared with another arm than the control."""
    measures: dict[str, str]
    """Words to where the number stands: ``step/estimate``, or ``step/metric`` of a training, for the last evaluation; of
    several that a ``*`` fits, the last."""
    curves: dict[str, str] = field(default_factory=dict)
    """Words to a family of numbers: ``step/metric`` of a training, or ``step/estimate*`` of best-of-n; both over KL."""
    gains: tuple[str, ...] = ()
    """Curves of rewards whose zero means nothing: shown as what was gained since their first point, seed by seed."""
    fits: dict[str, Form] = field(default_factory=dict)
    """Curves to the form that is fitted to them, ``best_of_n`` or ``rl``, seed by seed."""
    source: str = ""
    """The paper that is followed."""
    page: str = ""
    """What the study does and how to read it, for its page."""
    seeds: int = 5
    """Seeds that every arm runs with."""
    quick: Quick = field(default_factory=Quick)
    """The small version."""
    minutes: dict[str, float] = field(default_factory=dict)
    """How long quick and full took on two cores, measured."""

    def __post_init__(self) -> None:
        if self.control not in self.arms:
            raise ValueError(f"control is '{self.control}', which is no arm.{nearest(self.control, self.arms)}")
        for arm in (*self.against, *self.against.values()):
            if arm not in self.arms:
                raise ValueError(f"against names '{arm}', which is no arm.{nearest(arm, self.arms)}")
        if min(self.seeds, self.quick.seeds) < 2:
            raise ValueError("a study needs at least 2 seeds: one has no interval")
        for setting, named in (("gains", self.gains), ("fits", self.fits)):
            if unknown := next((words for words in named if words not in self.curves), ""):
                raise ValueError(f"{setting} names '{unknown}', which is no curve.{nearest(unknown, self.curves)}")

    @property
    def minus(self) -> str:
        """What the difference of an arm is called."""
        return "minus its control" if self.against else f"minus {self.control}"

    @property
    def words(self) -> tuple[str, ...]:
        """Everything that is compared: the measures, then what was fitted to curves."""
        return (*self.measures, *(words for curve in self.fits for words in _fit_words(curve)))


@dataclass(frozen=True, slots=True)
class Observed:
    """What one arm came to with one seed."""

    arm: str
    seed: int
    values: Mapping[str, float]
    points: Mapping[str, Sequence[tuple[float, float]]]
    """Curve to its (x, y), in the order of x."""
    run: str
    """The last run of the arm: its lineage leads to all others."""


def overlaid(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid over it, table by table; None takes a key out."""
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = overlaid(result[key], value)
        else:
            result[key] = value
    return result


def fitted(study: Study, points: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, float]:
    """What the fitted curves of one arm and seed say: a, b, and the distance of the peak.

    The peak is NaN where the fit has none on the way that was gone; all are, where the way has fewer than three points.
    """
    found: dict[str, float] = {}
    for curve, form in study.fits.items():
        start = points[curve][0][1] if points.get(curve) else nan
        way = [(x, y - start) for x, y in points.get(curve, ()) if x > (NEAREST if form == "rl" else 0.0)]
        values = (nan, nan, nan)
        if len(way) > 2:
            fit = fit_overoptimization([x for x, _ in way], [y for _, y in way], form=form)
            values = (fit.a, fit.b, fit.peak_d if fit.peak_d <= max(x for x, _ in way) else nan)
        found.update(zip(_fit_words(curve), values, strict=True))
    return found


def _fit_words(curve: str) -> tuple[str, str, str]:
    return f"{curve}: fitted a", f"{curve}: fitted b, over 0 where it bends down", f"{curve}: distance of the peak"


def compared(study: Study, observed: Sequence[Observed]) -> Iterator[Estimate]:
    """Every measure of every arm, and its paired difference from its control's."""
    by_arm: dict[str, dict[int, Observed]] = defaultdict(dict)
    for one in observed:
        by_arm[one.arm][one.seed] = one
    for words in study.words:
        for arm, own in by_arm.items():
            mine = _finite(own, words)
            if not mine:
                continue
            about = {"study": study.title, "arm": arm, "measure": words, "seeds": list(mine.values())}
            lost = len(own) - len(mine)
            yield _estimate(words, mean_interval(list(mine.values())), {**about, "role": "mean"}, lost)
            control = study.against.get(arm, study.control)
            theirs = _finite(by_arm[control], words)
            shared = sorted(mine.keys() & theirs.keys())
            if arm != control and shared:
                # A seed's number is a mean over prompts: no verdict that could have come out the other way.
                gap = mean_interval([mine[s] - theirs[s] for s in shared])
                role = {"role": "difference", "against": control}
                yield _estimate(words, gap, {**about, **role}, len(own) - len(shared))


def _finite(seen: Mapping[int, Observed], words: str) -> dict[int, float]:
    """Seed to value, where there is one."""
    return {seed: o.values[words] for seed, o in seen.items() if isfinite(o.values.get(words, nan))}


def curved(study: Study, observed: Sequence[Observed]) -> Iterator[Estimate]:
    """Every point of every curve, averaged over the seeds that reached it."""
    for words in study.curves:
        for arm in study.arms:
            tracks = [o.points[words] for o in observed if o.arm == arm and words in o.points]
            if words in study.gains:
                tracks = [[(x, y - track[0][1]) for x, y in track] for track in tracks]
            for place in range(max(map(len, tracks), default=0)):
                reached = [track[place] for track in tracks if place < len(track)]
                x = sum(point[0] for point in reached) / len(reached)
                about = {"study": study.title, "arm": arm, "measure": words, "role": "point", "x": x, "place": place}
                yield _estimate(
                    words, mean_interval([point[1] for point in reached]), about, len(tracks) - len(reached)
                )


def _estimate(name: str, interval: Interval, about: Mapping[str, Any], lost: int) -> Estimate:
    return Estimate(
        name=name, value=interval.value, low=interval.low, high=interval.high, n=interval.n, failed=lost,
        method=f"{interval.method}, over seeds", settings={**about, "se": interval.se, "level": interval.level},
    )  # fmt: skip


def drawn(study: Study, estimates: Sequence[Estimate]) -> str:
    """The study's figure: its curves where it has some, else its first measure arm by arm."""
    points = [e for e in estimates if e.settings["role"] == "point"]
    means = {(e.name, str(e.settings["arm"])): e for e in estimates if e.settings["role"] == "mean"}
    if points:
        return stacked(
            study.title, [_family(study, words, points, means) for words in dict.fromkeys(e.name for e in points)]
        )
    first = next(iter(study.measures))
    rows = [Row(arm, e.value, e.low, e.high) for (words, arm), e in means.items() if words == first]
    return dots(f"{study.title}: {first}", rows, unit=f"{first}, 95 % over {rows and estimates[0].n} seeds")


def _family(study: Study, words: str, points: Sequence[Estimate], means: Mapping[tuple[str, str], Estimate]) -> str:
    arms = dict.fromkeys(str(e.settings["arm"]) for e in points if e.name == words)
    series = [_curve(study, words, arm, [e for e in points if (e.name, e.settings["arm"]) == (words, arm)], means)
              for arm in arms]  # fmt: skip
    return curves(f"{study.title}: {words}", series, x="square root of KL, in nats", y="")


def _curve(
    study: Study, words: str, arm: str, points: Sequence[Estimate], means: Mapping[tuple[str, str], Estimate]
) -> Curve:
    own = sorted(points, key=lambda e: float(e.settings["x"]))
    curve = Curve(
        name=arm,
        x=[float(e.settings["x"]) for e in own],
        y=[e.value for e in own],
        low=[e.low if isfinite(e.low) else e.value for e in own],
        high=[e.high if isfinite(e.high) else e.value for e in own],
    )
    a, b, peak = (means.get((name, arm)) for name in _fit_words(words))
    return _with_fit(curve, study.fits[words], a, b, peak) if words in study.fits and a and b else curve


def _with_fit(curve: Curve, form: Form, a: Estimate, b: Estimate, peak: Estimate | None) -> Curve:
    """The curve with the line of its mean coefficients, and its peak where most seeds passed one."""
    start, end = curve.y[0], curve.x[-1]

    def height(d: float) -> float:
        return start + float(overoptimization(d, a.value, b.value, form))

    begin = 0.0 if form == "best_of_n" else min(NEAREST, peak.value if peak else end)
    way = [begin + (end - begin) * step / 60 for step in range(61)]
    mark, note = None, f"b {b.value:.2f} [{b.low:.2f}, {b.high:.2f}]"
    if peak and peak.n > max(1, peak.failed):
        low, high = max(peak.low, 0.0), min(peak.high, end)
        mark = Mark(peak.value, height(peak.value), low, high)
        note += f", peak at {peak.value:.2f} [{low:.2f}, {high:.2f}]"
    return replace(curve, line=[(d, height(d)) for d in way], mark=mark, note=note)


def written(study: Study, estimates: Sequence[Estimate]) -> str:
    """The study's page in Markdown: the question, how it is asked, and what was measured."""
    parts = [f"# {study.title}", study.question]
    if study.source:
        parts.append(f"After {study.source}.")
    parts += [study.page.strip(), f"![{study.title}]({FIGURE})", *_tables(study, estimates)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _tables(study: Study, estimates: Sequence[Estimate]) -> Iterator[str]:
    for words in study.words:
        own = [e for e in estimates if e.name == words]
        if not own:
            continue
        gaps = {e.settings["arm"]: e for e in own if e.settings["role"] == "difference"}
        lines = [
            f"| {words} | value | 95 % | {study.minus} | 95 % | seeds |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for e in own:
            if e.settings["role"] == "mean":
                arm = str(e.settings["arm"])
                gap = gaps.get(arm)
                of = f" ({gap.settings['against']})" if gap and study.against else ""
                gained = f"{gap.value:+.3f}{of} | {gap.low:+.3f} to {gap.high:+.3f}" if gap else " | "
                seeds = f"{e.n}, {e.failed} without" if e.failed else f"{e.n}"
                lines.append(f"| {arm} | {e.value:.3f} | {e.low:.3f} to {e.high:.3f} | {gained} | {seeds} |")
        yield "\n".join(lines)
