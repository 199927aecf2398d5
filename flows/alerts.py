"""Automations of a Prefect server: who is told what, by a notification block of the person's choice.

They watch the states that the flows end in, by the flows' names, so that they hold for every deployment. None of them
looks for runs whose process died: on SQLite such an automation locks the database, and PRISM_HEARTBEAT_URL notices a
dead server too.
"""

from dataclasses import dataclass

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import EventTrigger
from prefect.exceptions import ObjectNotFound

from storage.errors import InputError

_MESSAGE = "{{ flow_run.name }}: {{ flow_run.state.name }}\n{{ flow_run.state.message }}"


@dataclass(frozen=True)
class Alert:
    """One automation: in which states of which flow's runs it fires."""

    name: str
    flow: str
    states: tuple[str, ...]
    subject: str

    def trigger(self) -> EventTrigger:
        """What it waits for."""
        return EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in self.states},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": self.flow},
            for_each={"prefect.resource.id"},
        )


ALERTS = (
    Alert("prism success", "monthly_rebalance", ("Completed",), "PRISM: weights and trades"),
    Alert("prism held", "monthly_rebalance", ("Held",), "PRISM: held, no trade"),
    Alert("prism degraded", "monthly_rebalance", ("Degraded",), "PRISM: weights and trades, degraded"),
    Alert("prism approval", "monthly_rebalance", ("Paused",), "PRISM: an approval is needed"),
    Alert("prism failure", "monthly_rebalance", ("Failed", "Crashed", "TimedOut"), "PRISM: the monthly run failed"),
    Alert("prism late", "monthly_rebalance", ("Late",), "PRISM: the monthly run is late"),
    Alert("prism stale", "mark_live", ("Stale",), "PRISM: prices are stale"),
    Alert("prism outside", "mark_live", ("Outside",), "PRISM: the live record left its forecasts"),
    Alert("prism live failure", "mark_live", ("Failed", "Crashed"), "PRISM: marking to market failed"),
)


def install(block: str) -> list[str]:
    """Create the automations on the Prefect server, or bring those that are there up to date; their names.

    `block`: a notification block as TYPE/NAME. Raises InputError for one that the server does not have.
    """
    kind, _, name = block.partition("/")
    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_document_by_name(name, kind)
        except ObjectNotFound as error:
            raise InputError(
                f"the Prefect server has no block {block!r}; make one on its page Blocks, or give TYPE/NAME of another"
            ) from error
    for alert in ALERTS:
        action = SendNotification(block_document_id=found.id, subject=alert.subject, body=_MESSAGE)
        made = {"description": "made by PRISM", "trigger": alert.trigger(), "actions": [action]}
        try:
            standing = Automation.read(name=alert.name)
        except ValueError:
            Automation(name=alert.name, **made).create()
        else:
            standing.model_copy(update=made).update()
    return [alert.name for alert in ALERTS]
