"""A biller that listens for RADIUS, and a NAS that talks to it over real UDP."""

import socket
from datetime import UTC, datetime

import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred

from celcombiller.config.tables import Radius, RadiusClient
from celcombiller.core.access.actor import ALL_LEVELS, Actor
from celcombiller.core.charging.operator_credit import credit
from celcombiller.core.charging.requests import Credit
from celcombiller.core.data import session_records
from celcombiller.core.ledger.accounts import balances
from celcombiller.core.model.accounts import Kind
from celcombiller.core.schema import tables
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.transaction import transact
from tests.support.fakes.nas import SECRET, Nas, report
from tests.support.http.api_service import Biller
from tests.system.lab.waiting import free_ports

HERE = "127.0.0.1"
CLIENT = RadiusClient(name="hotspot", address=HERE, secret=SECRET)


class RadiusBiller:
    """A biller with RADIUS; ``nas`` is its one client."""

    def __init__(self, folder, **facts):
        self.nas = Nas()
        self.access, self.accounting = (free_ports(1, socket.SOCK_DGRAM) for _ in range(2))
        client = RadiusClient(
            **{"name": "hotspot", "address": HERE, "secret": SECRET, "disconnect_port": self.nas.number}
            | {name: facts.pop(name) for name in list(facts) if name in RadiusClient.__struct_fields__}
        )
        radius = Radius(access_port=self.access, accounting_port=self.accounting, clients=(client,), **facts)
        self.biller = Biller(folder, {}, "", radius=radius)
        self._credits = 0

    def credit(self, value, username="ana"):
        """Credit data to a subscriber."""
        self._credits += 1
        request = Credit(username, Kind.DATA, value, "web", f"credit {self._credits}")
        transact(
            self.biller.engine,
            lambda tx: credit(tx, request, Actor("admin", "", manages=ALL_LEVELS), datetime.now(UTC)),
        )

    def balance(self, username="ana"):
        """Return the posted and the held data credits."""
        with self.biller.engine.connect() as tx:
            account = balances(tx, subscriber_records.find(tx, username).id)[Kind.DATA]
        return account.posted, account.held

    def sessions(self):
        """Return all data sessions as recorded."""
        with self.biller.engine.connect() as tx:
            return [
                session_records.session_from_row(row)
                for row in tx.execute(sa.select(tables.data_session).order_by(tables.data_session.c.id))
            ]

    def count(self, result):
        """Return how many requests had this result."""
        name = "celcombiller_radius_requests_total"
        return self.biller.service.metrics.registry.get_sample_value(name, {"result": result}) or 0

    def ask(self, packet, **more):
        """Send an Access-Request; the Deferred fires with the answer."""
        return Deferred.fromCoroutine(self.nas.ask(packet, self.access, **more))

    def report(self, *facts, **more):
        """Send an Accounting-Request; the Deferred fires with the answer."""
        return Deferred.fromCoroutine(self.nas.ask(report(*facts, **more), self.accounting))

    async def close(self):
        """Stop it all; raise unless the audit finds every octet charged once."""
        found = self.biller.audit()
        await self.nas.close()
        await self.biller.stop()
        assert found.ok, found.differences


def radius_fixture(**facts):
    """Return a fixture of a biller whose settings of RADIUS and of its client have these values."""

    @pytest_twisted.async_yield_fixture
    async def radius(tmp_path):
        made = RadiusBiller(tmp_path, **facts)
        yield made
        await made.close()

    return radius
