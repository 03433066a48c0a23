"""The time to Dial of new calls beside very many live ones that are renewed in slices, and beside as many that are not.

`make bench-slices` plays an Asterisk: its channels, its AMI, and the calls that come. The live calls began together, so
the first wave of their renewals is measured. Measurements with and without slices take turns. Meanwhile the callers of
some live calls are disabled from outside the biller, one after the other, and it measures how soon after the commit the
biller hangs their calls up, which began before the biller was started. It is not a test: it asserts only that calls
were dialled and hung up, and that the ledger is right.
"""

import argparse
import json
import queue
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec

from celcombiller.bench import environment
from celcombiller.bench.environment import cpu_seconds, free_port
from celcombiller.bench.load_generator import FIRST_NUMBER, Plan, Traffic
from celcombiller.bench.measurements import percentile
from celcombiller.core.charging.batch import process_batch
from celcombiller.core.charging.requests import CallAnswered, ChargingPolicy, Initiate
from celcombiller.core.model.calls import CallReport
from celcombiller.core.model.tariffs import Rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.subscribers import subscriber_records
from celcombiller.database.engine import open_engine
from celcombiller.database.transaction import transact

CALLERS = 1000
"""The subscribers of new calls; those of live calls come after them."""

SLICE_SECONDS = 300
RENEWED_BEFORE = 15
"""So many seconds before its end a biller renews the grant of a call that another one began."""

ACTIONS = ("Status", "AbsoluteTimeout", "Hangup", "PlayDTMF", "Getvar", "Setvar", "DBGet", "CoreSettings")


# -- the played Asterisk, a process of its own -------------------------------------------------------------------------


def snapshot(channel, uniqueid, prefix=""):
    """Return what an event says of a channel, in Asterisk's order."""
    values = {
        **dict.fromkeys(("Channel", "ChannelState", "ChannelStateDesc", "CallerIDNum", "CallerIDName"), channel),
        **dict.fromkeys(("ConnectedLineNum", "ConnectedLineName", "Language", "AccountCode", "Context"), "x"),
        "Exten": "x",
        "Priority": "1",
        "Uniqueid": uniqueid,
        "Linkedid": uniqueid,
    }
    return "".join(f"{prefix}{name}: {value}\r\n" for name, value in values.items())


class PlayedAmi:
    """AMI of a server whose live calls go on until they are hung up; `hear` sends the events of the others."""

    def __init__(self, port, live):
        self.actions, self._to_send = Counter(), queue.SimpleQueue()
        self.hung_up = {}
        self._live = {
            channel: f"Event: Status\r\n{snapshot(channel, uniqueid)}BridgeID: b\r\n"
            "Seconds: 200\r\nActionID: @ID@\r\n\r\n"
            for uniqueid, channel in live
        }
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def hear(self, event, call, **fields):
        uniqueid = call.uniqueid.decode()
        text = f"Event: {event}\r\nTimestamp: {time.time():.6f}\r\n"
        text += snapshot(f"PJSIP/{FIRST_NUMBER + call.number}-{uniqueid}", uniqueid)
        if event == "DialEnd":
            text += snapshot("PJSIP/callee", "x", "Dest")
        self._send(text + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n")

    def _end(self, channel):
        self.hung_up[channel] = time.time()
        told = f"Event: Hangup\r\nTimestamp: {time.time():.6f}\r\n{snapshot(channel, channel.partition('-')[2])}"
        self._send(f"{told}Cause: 16\r\nCause-txt: x\r\n\r\n")

    def _send(self, text):
        """Send this when the biller has read what comes before it; calls wait for that no more than in Asterisk."""
        self._to_send.put(text.encode())

    @staticmethod
    def _send_all(connection, to_send):
        with suppress(OSError):  # the biller has ended
            while True:
                connection.sendall(to_send.get())

    def _serve(self):
        while True:
            connection, _ = self._listener.accept()
            self._to_send = queue.SimpleQueue()
            threading.Thread(target=self._send_all, args=(connection, self._to_send), daemon=True).start()
            self._send("Asterisk Call Manager/11.0.0\r\n")
            rest = b""
            while data := connection.recv(65536):
                *requests, rest = (rest + data).split(b"\r\n\r\n")
                for each in requests:
                    self._answer(dict(line.split(": ", 1) for line in each.decode().split("\r\n") if ": " in line))

    def _answer(self, request):
        fields = {key.lower(): value for key, value in request.items()}
        action, number = fields["action"], fields.get("actionid", "")
        is_live = "-pbx1-1." in fields.get("channel", "")
        self.actions["moved" if action == "AbsoluteTimeout" and is_live else action] += 1
        more = {
            "Challenge": "Challenge: 1\r\n",
            "Ping": f"Ping: Pong\r\nTimestamp: {time.time():.6f}\r\n",
            "Getvar": f"Variable: {fields.get('variable')}\r\nValue: 1\r\n",
            "CoreSettings": "SystemName: pbx1\r\n",
            "ListCommands": "".join(f"{each}: x  (Priv: call)\r\n" for each in ACTIONS),
            "Status": "EventList: start\r\n",
        }.get(action, "")
        one = fields.get("channel") if action == "Status" else None
        listed = list(self._live.values()) if one is None else [self._live[one]] if one in self._live else []
        result = "Error" if action == "DBGet" or (one and not listed) else "Success"
        self._send(f"Response: {result}\r\nActionID: {number}\r\nMessage: m\r\n{more}\r\n")
        if action == "Status" and result == "Success":
            end = f"Event: StatusComplete\r\nActionID: {number}\r\nEventList: Complete\r\nListItems: {len(listed)}\r\n"
            self._send("".join(listed).replace("@ID@", number) + end + "\r\n")
        if action == "Hangup" and self._live.pop(fields["channel"], ""):
            self._end(fields["channel"])
        if action == "Login":
            self._send("Event: FullyBooted\r\nStatus: Fully Booted\r\n\r\n")


class HeardTraffic(Traffic):
    """Calls whose answers and ends AMI tells of."""

    ami = None

    def _dial(self, call):
        answer = super()._dial(call)
        self.ami.hear("DialEnd", call, DialStatus="ANSWER")
        return answer

    def _over(self, call, *, broken):
        is_last = call.script == b"reducer" or call.seconds is None
        super()._over(call, broken=broken)
        if is_last:
            self.ami.hear("Hangup", call, **{"Cause": "16", "Cause-txt": "x"})


def play(settings):
    """Play an Asterisk: each line of input is a plan of calls, each line of output what came of it."""
    ami = HeardTraffic.ami = PlayedAmi(settings["port"], settings["live"])
    print("ready", flush=True)
    for line in sys.stdin:
        before = ami.actions.copy()
        tally = HeardTraffic(msgspec.json.decode(line, type=Plan)).run()
        done = {"tally": msgspec.to_builtins(tally), "actions": dict(ami.actions - before), "hung_up": ami.hung_up}
        print(json.dumps(done), flush=True)


# -- the measurement ---------------------------------------------------------------------------------------------------


def live_calls(count):
    """Return the uniqueid and channel of each live call."""
    made = [(FIRST_NUMBER + CALLERS + number, f"pbx1-1.{number}") for number in range(count)]
    return [(uniqueid, f"PJSIP/{caller}-{uniqueid}") for caller, uniqueid in made]


def begin_calls(url, count, slice_seconds):
    """Authorize all live calls at one moment in the past, at which the first of them become due now."""
    engine = open_engine(url, lock_seconds=5)
    at = datetime.now(UTC) - timedelta(seconds=SLICE_SECONDS / 2 - RENEWED_BEFORE - 15)
    previous = CallReport(answered=False, at=at)
    policy = ChargingPolicy(Tariff([Rate()]))
    made = live_calls(count)
    for start in range(0, count, 1000):
        part = made[start : start + 1000]
        asked = [
            Initiate(
                "pbx1",
                uniqueid,
                uniqueid,
                channel,
                "",
                channel[6:13],
                str(FIRST_NUMBER),
                False,
                previous,
                slice_seconds,
            )
            for uniqueid, channel in part
        ]
        with engine.begin() as tx:
            process_batch(tx, policy, asked, at)
            process_batch(tx, policy, [CallAnswered("pbx1", uniqueid, at) for uniqueid, _ in part], at)
    engine.dispose()


def disable_callers(url, channels, seconds):
    """Disable the caller of each of these channels within that time; return when that was committed."""
    engine, committed = open_engine(url, lock_seconds=5), {}
    for channel in channels:
        time.sleep(seconds / len(channels))
        change = partial(
            subscriber_records.change, username=f"u{channel[6:13]}", changes={"enabled": False}, now=datetime.now(UTC)
        )
        transact(engine, change)
        committed[channel] = time.time()
    engine.dispose()
    return committed


def measure(ledger, folder, count, slice_seconds, arguments):
    """Return what one measurement found.

    That is the time to Dial (50 %, 99 %, in ms), the biller's CPU share, the AMI actions, and the seconds from each
    commit that disabled a caller to the order to hang up their call.
    """
    file = folder / "ledger.sqlite"
    for each in folder.glob("ledger.sqlite*"):
        each.unlink()
    shutil.copy(ledger, file)
    url = f"sqlite:///{file}"
    begin_calls(url, count, slice_seconds or None)
    port = free_port()
    player = subprocess.Popen(
        [sys.executable, __file__, "--play"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    player.stdin.write(json.dumps({"port": port, "live": live_calls(count)}) + "\n")
    player.stdin.flush()
    assert player.stdout.readline() == "ready\n"
    settings = f"slice_seconds = {slice_seconds}\n[[asterisk]]\nname = 'pbx1'\nhost = '127.0.0.1'\nport = {port}\n"
    settings += "username = 'bench'\nsecret = 'bench'\n"
    try:
        with environment.biller(url, folder, settings=settings) as biller:
            time.sleep(arguments.settle)
            begins_at = time.monotonic() + 0.2
            plan = Plan(
                port=biller.port,
                begins_at=begins_at,
                counts_from=begins_at + 1,
                ends_at=begins_at + 1 + arguments.seconds,
                rate=arguments.rate,
                subscribers=CALLERS,
                name="pbx1",
            )
            cpu = cpu_seconds(biller.id)
            player.stdin.write(msgspec.json.encode(plan).decode() + "\n")
            player.stdin.flush()
            channels = [channel for _, channel in live_calls(count)[: arguments.changes]] if slice_seconds else []
            committed = disable_callers(url, channels, arguments.seconds / 2)
            done = json.loads(player.stdout.readline())
            cpu = (cpu_seconds(biller.id) - cpu) / (time.monotonic() - begins_at)
        said = (folder / f"log-{biller.port}").read_text(errors="replace")
    finally:
        player.kill()
        player.wait()
    tally = done["tally"]
    assert tally["broken"] == tally["refused"] == 0, tally | {"to_dial_us": []}
    assert not re.search("Traceback|get no slices: its AMI user", said), said[-3000:]
    assert environment.differences(url) == 0
    to_dial = tally["to_dial_us"]
    assert committed.keys() <= done["hung_up"].keys(), "calls of disabled callers go on"
    waits = [done["hung_up"][channel] - at for channel, at in committed.items()]
    return percentile(to_dial, 0.5), percentile(to_dial, 0.99), cpu, done["actions"], waits


def main():
    if "--play" in sys.argv:
        play(json.loads(sys.stdin.readline()))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=15_000, help="live calls")
    parser.add_argument("--pairs", type=int, default=3, help="measurements with slices, each beside one without")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a measurement")
    parser.add_argument("--settle", type=float, default=15.0, help="seconds that a biller runs before it is measured")
    parser.add_argument("--rate", type=float, default=50.0, help="new calls a second")
    parser.add_argument("--changes", type=int, default=20, help="live calls whose callers are disabled meanwhile")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = folder / "filled.sqlite"
        environment.fill(f"sqlite:///{ledger}", CALLERS + arguments.calls)
        print(f"{arguments.calls} live calls, {arguments.rate:g} new ones a second, time to Dial in ms\n")
        print("| slices | 50 % | 99 % | CPU | limits moved a second |\n|---|---|---|---|---|", flush=True)
        found, waits = {0: [], SLICE_SECONDS: []}, []
        for pair in range(arguments.pairs):
            for slice_seconds in sorted(found, reverse=bool(pair % 2)):
                half, most, cpu, actions, waited = measure(ledger, folder, arguments.calls, slice_seconds, arguments)
                waits += waited
                found[slice_seconds].append((half, most, cpu))
                moved = actions.get("moved", 0) / (arguments.seconds + 1)
                print(f"| {slice_seconds} s | {half:.2f} | {most:.2f} | {cpu:.2f} | {moved:.0f} |", flush=True)
        for column, what in enumerate(("50 %", "99 %", "CPU")):
            without, with_slices = (statistics.median(each[column] for each in found[key]) for key in sorted(found))
            print(f"\n{what}: {without:.2f} without, {with_slices:.2f} with slices ({with_slices / without:.2f} times)")
        if waits:
            print(
                f"\nhung up after its caller was disabled: {statistics.median(waits):.2f} s, at most {max(waits):.2f} s"
            )


if __name__ == "__main__":
    main()
