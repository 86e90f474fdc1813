"""Leaderboard: Which checkpoint is best, and is that real?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Leaderboard", "Which checkpoint is best, and is that real?")


if __name__ == "__main__":
    page()
