"""Examples: Why did it win or lose this prompt?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Examples", "Why did it win or lose this prompt?")


if __name__ == "__main__":
    page()
