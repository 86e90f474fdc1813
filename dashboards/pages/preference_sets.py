"""Preference sets: Is this set worth training on?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Preference sets", "Is this set worth training on?")


if __name__ == "__main__":
    page()
