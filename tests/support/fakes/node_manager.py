"""A NodeManager of ours that behaves as OpenBTS's does, faults included, in a thread of its own on a port of its own."""

import json
import threading

import zmq


class NodeManager:
    """Two tables, as sipauthserve has: who may register, and which number leads to whom; no constraint on either.

    ``troubles`` are taken one a request: what happens in place of, or after, what was asked.
    """

    def __init__(self, port=0):
        self.sip_buddies = []
        self.dialdata = []
        self.phones = []
        self.requests = []
        self.troubles = []
        self.port = port
        self._lock = threading.Lock()
        self._thread = None
        self._ending = threading.Event()

    def start(self):
        self._ending.clear()
        self._context = zmq.Context()
        socket = self._context.socket(zmq.ROUTER)  # as REP to its clients, but it may owe an answer
        socket.setsockopt(zmq.LINGER, 0)
        if self.port:
            socket.bind(f"tcp://127.0.0.1:{self.port}")
        else:
            self.port = socket.bind_to_random_port("tcp://127.0.0.1")
        self._thread = threading.Thread(target=self._serve, args=(socket,), daemon=True)
        self._thread.start()
        return self

    def stop(self):
        if self._thread is not None:
            self._ending.set()
            self._thread.join(10)
            self._thread = None
            self._context.term()

    def numbers(self):
        """Give IMSI and number of all rows, as the join of the two tables has them."""
        with self._lock:
            return sorted(((row["imsi"], row["msisdn"]) for row in self._rows()), key=str)

    def _serve(self, socket):
        with socket:
            while not self._ending.is_set():
                if socket.poll(20):
                    *envelope, raw = socket.recv_multipart()
                    said = self._answer(raw)
                    if said is not None:
                        socket.send_multipart([*envelope, said])

    def _answer(self, raw):
        request = json.loads(raw)
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble == "no answer":
            return None
        if isinstance(trouble, bytes):
            return trouble
        with self._lock:
            self.requests.append(request)
            answer = self._half(request) if trouble == "half" else self._done(request)
        if trouble == "answer lost":
            return None
        return json.dumps(trouble if isinstance(trouble, dict) else answer).encode()

    def _rows(self):
        for buddy in self.sip_buddies:
            numbers = [row["exten"] for row in self.dialdata if row["dial"] == buddy["username"]]
            for number in numbers or [None]:
                yield {"imsi": buddy["username"], "name": buddy["name"], "msisdn": number}

    def _half(self, request):
        """Write one of the two tables only."""
        fields = request["fields"]
        self.sip_buddies.append({"username": fields["imsi"], "name": fields["name"], "callerid": fields["msisdn"]})
        return {"code": 503, "data": {"sip_buddies": {"code": 200}, "dialdata_table": {"code": 503}}}

    def _done(self, request):
        assert set(request) <= {"command", "action", "match", "fields"}
        if request["command"] == "tmsis":  # of the BTS itself, which has a NodeManager of its own
            return {"code": 200, "data": [{"IMSI": imsi, "ACCESSED": age, "AUTH": "0"} for imsi, age in self.phones]}
        if request["command"] != "subscribers":
            return {"code": 501}
        match request["action"]:
            case "read":
                rows = list(self._rows())
                return {"code": 200, "data": rows} if rows else {"code": 404}
            case "create":
                fields = request["fields"]
                for name in ("name", "imsi", "msisdn", "ki"):
                    if name not in fields:
                        return {"code": 406, "data": f"missing {name}"}
                self.sip_buddies.append(
                    {"username": fields["imsi"], "name": fields["name"], "callerid": fields["msisdn"]}
                )
                self.dialdata.append({"dial": fields["imsi"], "exten": fields["msisdn"]})
            case "update":
                for row in self.sip_buddies:
                    if row["username"] == request["match"]["imsi"]:
                        row["name"], row["callerid"] = request["fields"]["name"], request["fields"]["msisdn"]
                for row in self.dialdata:
                    if row["dial"] == request["match"]["imsi"]:
                        row["exten"] = request["fields"]["msisdn"]
            case "delete":
                imsi = request["match"]["imsi"]
                self.sip_buddies = [row for row in self.sip_buddies if row["username"] != imsi]
                self.dialdata = [row for row in self.dialdata if row["dial"] != imsi]
            case _:
                return {}
        return {"code": 200, "data": "both ok"}
