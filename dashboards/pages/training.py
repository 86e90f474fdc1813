"""Training: Is training healthy, and when should it have stopped?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Training", "Is training healthy, and when should it have stopped?")


if __name__ == "__main__":
    page()
