"""The status page's HTML: what the sidecar is doing, the frame it judged last, its figures in groups."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from shm_bridge import Kind
from shm_bridge.inspect.figures import duration, grouped, phase_name
from sidecar.last_judged import Judged, LastJudged

_SAID = ("run_id", "ready", "engine", "metrics", "phase", "epoch", "uptime_s")  # in the head
_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>
<meta name=viewport content="width=device-width"><title>sidecar {run}</title><style>
body{{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:60rem;padding:0 1rem;color:#222}}
h1{{font-size:1.4rem;margin:0}}h2{{font-size:.85rem;color:#666;margin:0 0 .3rem}}p{{margin:.3rem 0 1rem}}
main{{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}}
section,figure{{margin:0;padding:.7rem .9rem;border:1px solid #ddd;border-radius:6px}}
img{{display:block;width:208px}}figcaption{{max-width:208px}}
table{{border-collapse:collapse}}td{{padding:.05rem 1.2rem .05rem 0}}
td+td{{text-align:right;padding-right:0;font-variant-numeric:tabular-nums}}</style>
<h1>sidecar {run}</h1><p>{head}</p><main>{pictures}{groups}</main>
<p><a href=/metrics>metrics</a> for Prometheus, <a href=/status.json>status.json</a>"""


def status_page(now: Mapping[str, Any], judged: LastJudged) -> str:
    """The page for a state as :class:`sidecar.web.Page` has it."""
    newest = judged.newest()
    pictures = "".join(_picture(kind, newest[kind], judged.age(newest[kind])) for kind in Kind if kind in newest)
    figures = {name: value for name, value in now.items() if name not in _SAID}
    groups = "".join(
        f"<section><h2>{html.escape(title)}</h2><table>{''.join(_row(*row) for row in rows)}</table></section>"
        for title, rows in grouped(figures)
    )
    nothing = "" if newest else "<section><h2>frames</h2>none was judged yet</section>"
    run = html.escape(str(now.get("run_id")))
    return _PAGE.format(run=run, head=html.escape(_head(now)), pictures=pictures or nothing, groups=groups)


def _head(now: Mapping[str, Any]) -> str:
    parts = ["ready" if now.get("ready") else "starting", f"engine {now.get('engine')}"]
    if "phase" in now:
        parts += [f"phase {phase_name(now['phase']) or '-'}", f"epoch {now.get('epoch')}"]
    if "uptime_s" in now:
        parts.append(f"up {duration(now['uptime_s'])}")
    return ", ".join(parts)


def _row(label: str, value: str) -> str:
    return f"<tr><td>{html.escape(label)}<td>{html.escape(value)}"


def _picture(kind: Kind, judged: Judged, age: float) -> str:
    seen = int(judged.seconds * 1000)  # a new picture has a new address, so none is taken from the browser's cache
    rows = [("verdict", verdict(kind, judged)), *_numbers(kind, judged), ("lane", judged.lane)]
    rows += [("episode", str(judged.episode)), ("step", str(judged.step)), ("judged", f"{duration(age)} ago")]
    return (
        f"<figure><h2>last {kind.name} question</h2><img src=/frame/{kind.name}.png?{seen} alt='the frame'>"
        f"<figcaption><p>{html.escape(judged.task)}</p>"
        f"<table>{''.join(_row(*row) for row in rows)}</table></figcaption></figure>"
    )


def verdict(kind: Kind, judged: Judged) -> str:
    """In a word or two."""
    reply = judged.reply
    if not reply.valid:
        return "unreadable"
    return "read" if kind is not Kind.DONE else "done" if reply.done else "not done"


def _numbers(kind: Kind, judged: Judged) -> list[tuple[str, str]]:
    reply = judged.reply
    if kind is Kind.DONE:
        return [("P(done)", "-" if math.isnan(reply.probability) else f"{reply.probability:.3f}")]
    name = "value" if kind is Kind.VALUE else "critic"
    return [(name, "-" if math.isnan(reply.value) else f"{reply.value:.1f} %")]
