"""The commands that show a store to people: the dashboard, its Label page, and the report in one file."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

from rlhf_eval import registry
from rlhf_eval.cli import show
from rlhf_eval.cli.show_boards import rendered
from rlhf_eval.errors import UserError
from rlhf_eval.verbs.audit import stamp
from rlhf_eval.verbs.leaderboard import GradeBoard, leaderboard, mean_grades
from rlhf_eval.verbs.session import Options, Session

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FIRST_PORT, PORTS = 8501, 50
SUFFIX = {"html": ".html", "md": ".md", "latex": ".tex"}


def dashboard(options: argparse.Namespace) -> int:
    """Serve the pages until Ctrl-C."""
    return _serve(options, "", "run")


def label(options: argparse.Namespace) -> int:
    """Serve the pages, starting where people label."""
    return _serve(options, "label", "of")


def report(options: argparse.Namespace) -> int:
    """Write the report; raises UserError where there is nothing to report or the file cannot be written."""
    session = Session(Options(store=Path(options.store)))
    path = Path(options.out or f"report{SUFFIX[options.format]}")
    chosen = {"judge": options.judge, "baseline": options.baseline, "run": options.run}
    text = (
        registry.load("page", "report").main(session.store, **chosen)
        if options.format == "html"
        else _tables(session, options.format, **chosen)
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: the report cannot be written: {error.strerror}") from error
    show.problems(session.store)
    print(f"report: {path} ({len(text.encode()):,} bytes; opens without a network)")
    print(f"  next:    rlhf-eval dashboard{session.options.store_flag}")
    return 0


def _tables(session: Session, form: str, *, judge: str, baseline: str, run: str) -> str:
    graded = [] if baseline else _graded(session, judge=judge, run=run)
    try:
        boards = leaderboard(session, judge=judge, baseline=baseline, run=run)
    except UserError:
        if not graded:
            raise
        boards = []
    comment = {"md": "", "latex": "% "}[form]
    judges = dict.fromkeys([*(board.judge for board in boards), *(board.judge for board in graded)])
    stamps = [f"{comment}{name}: {stamp(session, name)}" for name in judges]
    head = {"md": [], "latex": [r"% needs \usepackage{booktabs}", ""]}[form]
    tables = [*(rendered(board, form) for board in boards), *(rendered(board, form) for board in graded)]
    return "\n".join([*head, *tables, "\n\n".join(stamps), ""])


def _graded(session: Session, *, judge: str, run: str) -> list[GradeBoard]:
    """Boards of mean grades with more than one model, or of the judge that was asked for."""
    try:
        return [board for board in mean_grades(session, judge=judge, run=run) if len(board.rows) > 1 or judge]
    except UserError:
        return []


def _serve(options: argparse.Namespace, page: str, key: str) -> int:
    """Serve the app and print where ``page`` is; its filter ``key`` is set to the run that was asked for."""
    if find_spec("streamlit") is None:
        raise UserError(f"the dashboard needs the package 'streamlit': {registry.install_hint('streamlit')}")
    app = find_spec(registry.PLUGINS["page"]["app"])
    if app is None or app.origin is None:
        raise UserError("the dashboard of rlhf-eval is missing; install rlhf-eval again")
    store = Session(Options(store=Path(options.store))).store
    query = f"?{urlencode({key: store.find(options.run).title})}" if options.run else ""
    port = _port(options.host, options.port)
    where = "localhost" if options.host in ("0.0.0.0", "::") else options.host
    print(f"dashboard: http://{where}:{port}/{page}{query}   (Ctrl-C ends it)", flush=True)
    if options.host not in LOOPBACK:
        print(f"  warning: whoever reaches {options.host}:{port} can read this store and add labels", file=sys.stderr)
    command = [
        sys.executable, "-m", "streamlit", "run", app.origin, "--server.address", options.host, "--server.port", str(port),
        "--server.headless", "true", "--browser.gatherUsageStats", "false", "--logger.level", "warning",
        "--", "--store", str(options.store),
    ]  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:  # however this process ends, the server ends with it
        server.terminate()
        server.wait()


def _port(host: str, wanted: int | None) -> int:
    """The port to listen at; raises UserError where it is taken."""
    for port in [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + PORTS):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except PermissionError as error:
                raise UserError(f"port {port} needs more rights; choose one above 1023") from error
            except (OSError, OverflowError) as error:
                if wanted:
                    raise UserError(
                        f"{host}:{port} cannot be listened at ({error}). Give another --port or --host"
                    ) from error
                continue
            return port
    raise UserError(f"no free port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1} at {host}; give one with --port")
