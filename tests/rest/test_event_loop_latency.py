"""What keeps the reactor's turns short while many ask: hashing comes last, reading and hashing are in other threads."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from celcombiller.core.reports import history
from celcombiller.runtime.credentials.password_hasher import NICENESS_LAST, Passwords
from celcombiller.service import Options, makeService
from tests.support.http.api_service import PASSWORD, biller_fixture

biller = biller_fixture()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
@pytest_twisted.ensureDeferred
async def test_hashing_waits_for_a_free_core():
    passwords, seen, own = Passwords(reactor), [], os.getpriority(os.PRIO_PROCESS, 0)
    passwords.start()
    try:
        await passwords._wait(
            passwords._logins,
            "",
            lambda: seen.append((os.getpriority(os.PRIO_PROCESS, 0), threading.get_native_id())),
            is_full=False,
        )
        hashed = await passwords.hash(PASSWORD)
        assert await passwords.verify(hashed, PASSWORD)
    finally:
        passwords.stop()
    ((niceness, thread),) = seen
    assert niceness == NICENESS_LAST
    assert thread != threading.get_native_id()
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


@pytest_twisted.ensureDeferred
async def test_lists_are_read_outside_the_reactor_thread(biller, monkeypatch):
    admin = await biller.logged_in("admin")
    real, threads = history.list_calls, []

    def seen(*arguments, **named):
        threads.append(threading.get_ident())
        return real(*arguments, **named)

    monkeypatch.setattr(history, "list_calls", seen)
    assert (await admin.get("/api/v1/calls")).code == 200
    assert (await admin.get("/api/v1/calls.csv")).code == 200
    assert len(threads) == 2
    assert threading.get_ident() not in threads


@pytest.mark.slow
def test_startup_objects_are_exempt_from_garbage_collection(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run([Path(sys.executable).parent / "celcombiller", "init"], check=True, capture_output=True)
    Path("celcombiller.toml").write_text("[service]\none_core = false\n", encoding="utf-8")
    options = Options()
    options.parseOptions([])
    gc.unfreeze()  # what was there before the tests
    assert gc.get_freeze_count() == 0
    made = makeService(options)
    assert gc.get_freeze_count() > 10_000
    made._lock.close()
