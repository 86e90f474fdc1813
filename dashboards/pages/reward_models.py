"""Reward models: Is the reward model good enough to optimise against?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Reward models", "Is the reward model good enough to optimise against?")


if __name__ == "__main__":
    page()
