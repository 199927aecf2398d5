"""What the files of `deployments/` say is true: flows, parameters, dates, pools, versions, images."""

import asyncio
import inspect
import json
import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prefect.client.schemas.schedules import CronSchedule, RRuleSchedule
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.server.schemas.schedules import CronSchedule as ServerCron
from prefect.server.schemas.schedules import RRuleSchedule as ServerRRule

from flows import deploying
from storage import settings
from tasks import calendars

FOLDER = Path(__file__).parents[2] / "deployments"
DECLARED = {entry["name"]: entry for entry in deploying.declared()}
NEW_YORK = ZoneInfo("America/New_York")
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (FOLDER / "constraints.txt").read_text(), re.MULTILINE))


def test_what_is_needed_is_declared_once():
    names = [entry["name"] for entry in deploying.declared()]
    wanted = {
        "ingest",
        "live",
        "monthly",
        "rebalance",
        "backfill",
        "cpu",
        "gpu",
        "tune",
        "report",
        "maintain",
        "verify",
    }
    assert len(set(names)) == len(names)
    assert wanted | {"backup"} <= set(names)


@pytest.mark.parametrize("name", DECLARED)
def test_an_entrypoint_is_a_flow_whose_parameters_fit(name):
    entry = DECLARED[name]
    assert ":" not in entry["entrypoint"]
    flow = load_flow_from_entrypoint(entry["entrypoint"])
    assert isinstance(flow, Flow)
    signature, given = inspect.signature(flow.fn), entry.get("parameters", {})
    required = [each for each in signature.parameters.values() if each.default is each.empty]
    if required:
        assert "schedules" not in entry, "nobody could fill in what it needs"
    else:
        assert flow.validate_parameters(flow.serialize_parameters(given)).keys() >= given.keys()
    assert set(given) <= set(signature.parameters)
    assert flow.timeout_seconds >= 3600
    assert len(entry["description"]) > 40
    assert entry["tags"]
    assert entry["work_pool"]["name"] in deploying.POOLS
    assert entry["concurrency_limit"]["limit"] >= 1


@pytest.mark.parametrize("name", DECLARED)
def test_one_process_serves_the_same(name):
    entry, made = DECLARED[name], deploying.of_entry(DECLARED[name])
    assert (made.name, made.entrypoint, made.tags) == (name, entry["entrypoint"], entry["tags"])
    assert made.parameters == entry.get("parameters", {})
    assert made.concurrency_limit == entry["concurrency_limit"]["limit"]
    assert [each.slug for each in made.schedules] == [each["slug"] for each in entry.get("schedules", [])]


async def days(given, start, count):
    """When Prefect's own schedule fires, in New York."""
    if "cron" in given:
        schedule = ServerCron(**CronSchedule(cron=given["cron"], timezone=given["timezone"]).model_dump())
    else:
        schedule = ServerRRule(**RRuleSchedule(rrule=given["rrule"], timezone=given["timezone"]).model_dump())
    return [each.astimezone(NEW_YORK) for each in await schedule.get_dates(count, start=start)]


def dates_of(name, place, start, count):
    return asyncio.run(days(DECLARED[name]["schedules"][place], start, count))


def test_the_month_is_decided_on_its_first_weekday_before_the_open_in_summer_and_winter():
    found = dates_of("monthly", 0, datetime(2026, 10, 15, tzinfo=UTC), 7)
    first = ("2026-11-02", "2026-12-01", "2027-01-01", "2027-02-01", "2027-03-01", "2027-04-01", "2027-05-03")
    assert [f"{each:%Y-%m-%d %H:%M}" for each in found] == [f"{day} 06:00" for day in first]
    assert {each.utcoffset() for each in found} == {timedelta(hours=-5), timedelta(hours=-4)}
    again = dates_of("monthly", 1, datetime(2026, 10, 15, tzinfo=UTC), 7)
    assert [later - first for first, later in zip(found, again, strict=True)] == [timedelta(hours=2)] * 7


def test_every_month_s_run_comes_after_the_as_of_close_and_before_the_trade_s():
    """On 1 January, too, when the exchange is closed: the month's first session is still to come."""
    for moment in dates_of("monthly", 1, datetime(2015, 1, 1, tzinfo=UTC), 140):
        at = moment.astimezone(UTC).replace(tzinfo=None)
        before = calendars.due("XNYS", at, timedelta(minutes=30), "M")
        traded = calendars.next_session("XNYS", before).item()
        assert f"{before:%Y-%m}" < f"{moment:%Y-%m}" == f"{traded:%Y-%m}"
        assert at < calendars.close_of("XNYS", traded) - timedelta(hours=3)


def test_prices_are_asked_for_each_weekday_after_the_close():
    for moment in dates_of("ingest", 0, datetime(2026, 3, 1, tzinfo=UTC), 30):
        assert moment.weekday() < 5
        assert (moment.hour, moment.minute) == (18, 30)
        day = moment.date()
        if calendars.sessions("XNYS", day, day).size:
            at = moment.astimezone(UTC).replace(tzinfo=None)
            assert calendars.last_completed("XNYS", at, timedelta(minutes=30)) == day


@pytest.mark.parametrize(("name", "weekday"), [("maintain", 5), ("verify", 5), ("backup", None)])
def test_upkeep_is_done_when_nothing_is_decided(name, weekday):
    decided = {each.date() for each in dates_of("monthly", 0, datetime(2026, 1, 1, tzinfo=UTC), 24)}
    for moment in dates_of(name, 0, datetime(2026, 1, 1, tzinfo=UTC), 20):
        assert moment.date() not in decided
        assert weekday in (None, moment.weekday())


def test_the_server_is_started_with_the_values_of_its_file():
    written = dict(line.split("=", 1) for line in (FOLDER / "server.env").read_text().splitlines() if "=" in line)
    ours = {name: value for name, value in settings._PREFECT.items() if name in written}
    assert ours == {name: value for name, value in written.items() if name != "PREFECT_SERVER_UI_API_URL"}
    assert {name for name in settings._PREFECT if "SERVICES" in name or "SERVER_UI" in name} <= written.keys()


@pytest.mark.parametrize("kind", ["process", "docker"])
def test_the_pools_templates_are_prefect_s_with_our_defaults(kind):
    import prefect

    known = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
    package = {"process": "prefect", "docker": "prefect-docker"}[kind]
    theirs = json.loads(known.read_text())[package][kind]["default_base_job_configuration"]
    ours = deploying.template(kind)
    assert ours["job_configuration"] == theirs["job_configuration"]
    assert ours["variables"]["properties"].keys() == theirs["variables"]["properties"].keys()
    for name, value in settings._ARITHMETIC.items():
        assert ours["variables"]["properties"]["env"]["default"][name] == value


def test_the_pins_are_those_of_the_project():
    wanted = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    extras = [each for group in wanted["optional-dependencies"].values() for each in group]
    for each in (*wanted["dependencies"], *extras):
        name = re.match(r"[A-Za-z0-9_.-]+", each)[0].lower().replace("_", "-")
        assert name in {pin.lower().replace("_", "-") for pin in PINS} | {"prism-portfolio"}, each
