"""Before publishing: limits, and a person's answer where one is broken or every date is to be approved.

A run on a Prefect server pauses with a form, which the run's page in the UI shows; a run in a terminal asks there.
Where neither is possible, nothing is recorded, and the sentence says how to answer. Without an answer by the deadline,
and after a rejection, the date is held: nothing is traded, and what was held before stands. The last moment to publish
is PRISM_PUBLISH_BY hours before the close of the rebalance date; a date that comes later is not published, and says so.
"""

import getpass
import logging
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from math import ceil
from typing import Any, Literal
from uuid import UUID

import typer
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from flows.lines import Line
from storage import clock, ledger, universe
from storage.errors import ApprovalError
from storage.keys import Moment, PanelKey
from storage.ledger import BACKFILL, HELD, PUBLISHED
from storage.limits import Limits
from storage.settings import Settings
from storage.store import open_store
from tasks import calendars, panels, server
from tasks.planned import Month
from tasks.proposal import Proposal, propose

_POLL = 10  # seconds between two looks at whether a paused run was answered
_GRACE = 600  # seconds after the deadline in which the server still lets a run go on
_NO_ANSWER = "no answer"
_ADVICE = {
    "turnover": "raise {setting} or limit turnover with return_drawdown.turnover_limit",
    "weight": "raise {setting} or lower return_drawdown.max_weight",
    "sector": "raise {setting} or set a sector cap",
    "distance": "look at `prism explain`, or raise {setting}",
    "volatility": "look at the forecasts, or raise {setting}",
    "missing": "look at `prism doctor` for prices that are missing, or raise {setting}",
}
_WHAT = {
    "turnover": "turnover",
    "weight": "the weight of {weight_of}",
    "sector": "the weight of sector {sector_of}",
    "distance": "the distance to the weights of the date before",
    "volatility": "the change of the predicted volatility",
    "missing": "the share of tickers left out",
}
log = logging.getLogger("prism.flow")


class Approval(RunInput):
    """The form of a paused run."""

    answer: Literal["approve", "reject"] = Field(title="Publish?", description="Reject: last month's holdings stand.")
    by: str = Field(default="", title="Your name", description="For the ledger.")
    comment: str = Field(default="", title="Comment", description="For the ledger.")


@dataclass(frozen=True)
class Answer:
    """What a person said, or that nobody did."""

    answer: Literal["approve", "reject", "no answer"]
    by: str = ""
    comment: str = ""


def given(approve: str | None, reject: str | None) -> Answer | None:
    """An answer given in advance, as a comment; None where there is none."""
    if approve is None and reject is None:
        return None
    return Answer("approve" if reject is None else "reject", getpass.getuser(), approve or reject or "")


def gate(line: Line, moment: Moment, given: Answer | None, due: bool) -> Callable[[PanelKey, Month], Month] | None:
    """What settles whether the newest date is published; None where it is final, or nothing is published.

    `given` is an answer that came with the run, for a date that needs one. A date that comes too late says so where it
    was `due`, or where the line has published before.
    """
    standing = ledger.current(open_store(), line.scenario).get(moment.rebalance_date)
    if standing is not None and standing.is_final:
        return None
    return lambda panel, month: _settled(line, panel, month, given, _is_expected(line, due))


def is_past(line: Line, moment: Moment, due: bool) -> bool:
    """Whether it is too late to publish a date, and nobody waits for it: then there is nothing to say of it either."""
    exchange = universe.load(open_store(), line.at(moment.rebalance_date).panel.universe).exchange
    return clock.now() >= last_moment(exchange, moment.rebalance_date) and not _is_expected(line, due)


def _is_expected(line: Line, due: bool) -> bool:
    """Whether a date that is not published is to say so."""
    return due or any(entry.is_final for entry in ledger.current(open_store(), line.scenario).values())


def last_moment(exchange: str, day: date) -> datetime:
    """Until when a rebalance date may be published."""
    return calendars.close_of(exchange, day) - timedelta(hours=Settings().publish_by)


def _settled(line: Line, panel: PanelKey, month: Month, given: Answer | None, expected: bool) -> Month:
    """The date, published or held, with what was looked at and who answered what, for its record."""
    if month.kind != PUBLISHED:
        return month
    close = last_moment(panels.load(open_store(), panel).universe.exchange, month.moment.rebalance_date)
    if clock.now() >= close:
        late = {"answer": None, "said": _late(month, close)} if expected else None
        return replace(month, kind=BACKFILL, publication=late)
    proposal, limits = propose(panel, line.scenario, month), Limits()
    broken = breaches(proposal, limits)
    record: dict[str, Any] = {"limits": limits.values(), "measured": proposal.values(), "breaches": broken}
    if not broken and not Settings().approval:
        return replace(month, publication=record | {"answer": None, "said": ""})
    deadline = min(close, clock.now() + timedelta(hours=Settings().approval_hours))
    found = given or _asked(month, proposal, broken, deadline)
    if clock.now() >= close and found.answer == "approve":
        found = replace(found, answer=_NO_ANSWER, comment=f"approved too late ({found.comment})")
    said = _said(month, found, broken, deadline)
    log.warning(said)
    record |= {"answer": found.answer, "by": found.by, "comment": found.comment, "at": f"{clock.now()}", "said": said}
    return replace(month, kind=PUBLISHED if found.answer == "approve" else HELD, publication=record)


def _late(month: Month, deadline: datetime) -> str:
    """That a date is not published, in a sentence."""
    said = (
        f"{month.moment.month} was decided at {clock.now():%Y-%m-%d %H:%M} UTC, after its deadline of "
        f"{deadline:%Y-%m-%d %H:%M} UTC, so it is not published: what was published before stands"
    )
    log.warning(said)
    return said


def breaches(proposal: Proposal, limits: Limits) -> list[str]:
    """A sentence for each limit that is broken: the value, the limit, and what to do."""
    values, found = proposal.values(), []
    for name, limit in limits.values().items():
        value = values[name]
        if value is not None and value > limit:
            setting = f"PRISM_LIMIT_{name.upper()}"
            what, advice = _WHAT[name].format(**values), _ADVICE[name].format(setting=setting)
            found.append(f"{what} is {100 * value:.1f} %, above the limit of {100 * limit:.4g} %; {advice}")
    return found


def _said(month: Month, found: Answer, broken: list[str], deadline: datetime) -> str:
    """The decision in a sentence."""
    why = f" ({'; '.join(broken)})" if broken else ""
    note = f": {found.comment}" if found.comment else ""
    who = f" by {found.by}" if found.by else ""
    if found.answer == "approve":
        return f"{month.moment.month} was approved{who}{note}{why}"
    how = f"nobody answered by {deadline:%Y-%m-%d %H:%M} UTC" if found.answer == _NO_ANSWER else f"rejected{who}"
    return f"{month.moment.month} is held, {how}{note}{why}"


def _asked(month: Month, proposal: Proposal, broken: list[str], deadline: datetime) -> Answer:
    """A person's answer: from the form of the paused run, or from the terminal."""
    context = FlowRunContext.get()
    is_deployed = context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None
    if is_deployed or (server.lasts() and not sys.stdin.isatty()):
        return _paused(month, proposal, broken, deadline)
    if sys.stdin.isatty():
        return _prompted(month, proposal, broken)
    raise ApprovalError(_unanswered(month, broken))


def _unanswered(month: Month, broken: list[str]) -> str:
    """That an answer is needed, and how to give it, in a sentence."""
    return (
        f"{month.moment.month} needs a person's approval: {'; '.join(broken) or 'PRISM_APPROVAL is true'}; nothing was "
        'recorded: run again with --approve "why", or with --reject "why" to hold what is held'
    )


def _paused(month: Month, proposal: Proposal, broken: list[str], deadline: datetime) -> Answer:
    """Pause the run until its form is filled in; no answer where the deadline passes."""
    seconds = max(1, ceil((deadline - clock.now()).total_seconds()))
    form = Approval.with_initial_data(description=_form(month, proposal, broken, deadline))
    log.warning("%s waits for approval until %s UTC: %s", month.moment.month, deadline, "; ".join(broken) or "asked to")
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    ending = threading.Timer(seconds, copy_context().run, [_go_on, context.flow_run.id])
    ending.daemon = True
    ending.start()
    try:
        filled = pause_flow_run(wait_for_input=form, timeout=seconds + _GRACE, poll_interval=min(_POLL, seconds))
    finally:
        ending.cancel()
    if (filled.answer, filled.comment) == ("reject", _NO_ANSWER):
        return Answer(_NO_ANSWER)
    return Answer(filled.answer, filled.by, filled.comment)


def _go_on(run: UUID) -> None:
    """Let a paused run go on at its deadline: a pause that times out is failed by the server, which tells everybody."""
    with get_client(sync_client=True) as client:
        client.resume_flow_run(run, run_input={"answer": "reject", "by": "", "comment": _NO_ANSWER})


def _form(month: Month, proposal: Proposal, broken: list[str], deadline: datetime) -> str:
    """What the form shows above its fields, in Markdown."""
    held = sorted(proposal.weights.items(), key=lambda item: -abs(item[1]))
    lines = [f"**{month.moment.month}: publish {month.publish}?** Without an answer by {deadline:%Y-%m-%d %H:%M} UTC"]
    lines[0] += " the month is held: no trade."
    lines += [f"- {sentence}" for sentence in broken]
    lines += ["", f"turnover {100 * proposal.turnover:.1f} %", "", "| ticker | weight |", "|---|---|"]
    return "\n".join([*lines, *(f"| {ticker} | {100 * weight:.2f} % |" for ticker, weight in held)])


def _prompted(month: Month, proposal: Proposal, broken: list[str]) -> Answer:
    """Ask on the terminal until it is a yes or a no; raises ApprovalError where the input ends before."""
    for line in (f"{month.moment.month}: turnover {100 * proposal.turnover:.1f} %", *broken):
        typer.echo(line, err=True)
    try:
        publish = typer.confirm("publish it? after a no, what is held stands", default=None, err=True)
        comment = typer.prompt("comment for the ledger", default="", show_default=False, err=True)
    except typer.Abort:
        raise ApprovalError(_unanswered(month, broken)) from None
    return Answer("approve" if publish else "reject", getpass.getuser(), comment)
