"""How a run begins and ends in the words of Prefect's UI: its name, and the message of its final state.

A run that PRISM ends on purpose fails with the one sentence that says why; Prefect would put the error's class first.
Whoever calls a flow gets its value, or the error, as if no state had been made.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from prefect.context import FlowRunContext
from prefect.states import Completed, Failed, State

from flows.diary import Diary
from storage.errors import PrismError

P = ParamSpec("P")


def in_words(function: Callable[P, Any]) -> Callable[P, Any]:
    """Make an error that PRISM raises on purpose the failed state whose message is the error's sentence."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return function(*args, **kwargs)
        except PrismError as error:
            return Failed(message=str(error), data=error)

    return run


def completed(result: dict[str, Any], diary: Diary) -> State[dict[str, Any]]:
    """The completed state of a run that decided something."""
    return Completed(message=worded(result, diary), data=result)


def worded(result: dict[str, Any], diary: Diary) -> str:
    """What is newly decided, what was computed for it, and what was stored already."""
    new = result["decided"]
    dates = f"{len(new)} rebalance date{'' if len(new) == 1 else 's'}"
    span = f" ({new[0]} to {new[-1]})" if len(new) > 1 else f" ({new[0]})" if new else ""
    return f"{result['scenario']}, {result['month']}: {dates} newly decided{span}; {diary.words()}"


def call_it(name: str) -> None:
    """Give the run of Prefect's that is under way a name, once what it is about is known."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        context.client.set_flow_run_name(flow_run_id=context.flow_run.id, name=name)
