"""Judge quality: Can I believe this judge today?"""

from __future__ import annotations

from dashboards import show


def page() -> None:
    """Draw the page."""
    show.title("Judge quality", "Can I believe this judge today?")


if __name__ == "__main__":
    page()
