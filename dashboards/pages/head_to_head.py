"""Head-to-head: Who beats whom, and are there cycles?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Head-to-head", "Who beats whom, and are there cycles?")


if __name__ == "__main__":
    page()
