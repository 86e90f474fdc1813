"""Label: Which of two answers is better, by your own eyes?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Label", "Which of two answers is better, by your own eyes?")


if __name__ == "__main__":
    page()
