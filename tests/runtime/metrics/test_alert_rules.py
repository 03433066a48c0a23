"""The dashboard and the alert rules: what they name is there, and nothing that is measured is shown nowhere."""

import functools
import json
import re
from pathlib import Path

import pytest
import yaml

from celcombiller.core.reports.open_items import NetworkProgress, OpenItems
from celcombiller.core.reports.seller_items import SellerItems
from celcombiller.runtime.metrics import Metrics
from tests.runtime.metrics.test_metrics import told

ETC = Path(__file__).parents[3] / "etc"


@functools.cache
def known_names():
    """Every name that a scrape can have, from what each family says of itself."""
    metrics = Metrics()
    metrics.links.record_up("pbx1")
    metrics.rest.count("GET /healthz", 200)
    metrics.radius.count_request("ACCEPTED")
    metrics.radius.count_disconnect("ACK")
    metrics.messages.count_command("sms", "sell", "done", is_new=True)
    metrics.payments.count("gateway", "credited")
    metrics.messages.count_command("asterisk", "sell", "done", is_new=True)
    metrics.calls.count_failover("north", "CONGESTION")
    metrics.calls.count_way("Brazil", "north", answered=True, trunk_cost=1)
    network = NetworkProgress(up=True, waiting=0, oldest_seconds=0, failing=0, done_total=1, failed_total=0)
    progress = OpenItems(
        holds=1,
        held=60,
        oldest_seconds=1,
        overdue=0,
        overdue_seconds=0,
        calls={"pbx1": 1},
        networks={"village": network},
        sellers=SellerItems({("shop", "sms"): (1, 60)}, {"shop": 600}, 1),
    )
    return {name.partition("{")[0] for name in told(metrics, progress, {"pbx1": 0})} | {"up"}


def names_in(expression):
    """Give the metrics of an expression: its words but for functions, labels, texts and grouping."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", expression)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()\b", bare)
    return {
        word for word in words if word not in {"and", "or", "unless", "bool", "offset", "sum", "max", "min", "rate"}
    }


def expressions():
    rules = yaml.safe_load((ETC / "prometheus-rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((ETC / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_in_alerts_and_panels_exists(where, expression):
    names = names_in(expression)
    assert names
    assert names <= known_names()


def test_every_metric_is_on_dashboard_or_alert():
    families = {re.sub(r"_(bucket|sum|count)$", "", each) for each in known_names() if each.startswith("celcombiller_")}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for _, each in expressions() for name in names_in(each)}
    assert families - {"celcombiller_build_info"} <= shown


def test_every_alert_has_summary_severity_and_remedy():
    rules = yaml.safe_load((ETC / "prometheus-rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning"), rule
            assert rule["annotations"].keys() == {"summary", "description"}, rule


def test_the_dashboard_uses_the_chosen_datasource():
    dashboard = json.loads((ETC / "grafana-dashboard.json").read_text())
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert all(panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for panel in panels)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
