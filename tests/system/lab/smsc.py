"""A message centre that waits in a socket: lets the biller in, and brings it one message after the other."""

import socket
from collections.abc import Callable
from typing import Any

from smpplib.smpp import make_pdu, parse_pdu


class Centre:
    """SMPP's server side for one biller at a time."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(20)
        self.port: int = self._server.getsockname()[1]
        self._link: socket.socket | None = None
        self._sequence = 0

    def next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def let_in(self) -> None:
        """Wait for the biller and let it log in."""
        if self._link is not None:
            self._link.close()
        self._link, _ = self._server.accept()
        self._link.settimeout(20)
        self._until(lambda pdu: pdu.command == "bind_transceiver")

    def bring(self, **facts: object) -> int:
        """Send a deliver_sm; give the status of the answer."""
        pdu = make_pdu("deliver_sm", client=self, **facts)
        self._send(pdu)
        return int(self._until(lambda answer: answer.command == "deliver_sm_resp").status)

    def stop(self) -> None:
        for each in (self._link, self._server):
            if each is not None:
                each.close()

    def _until(self, is_it: Callable[[Any], bool]) -> Any:
        """Answer what is asked, up to and with the one that is waited for."""
        while True:
            pdu = self._read()
            if pdu.command in ("bind_transceiver", "enquire_link"):
                answer = make_pdu(f"{pdu.command}_resp", client=self)
                answer.sequence = pdu.sequence
                self._send(answer)
            if is_it(pdu):
                return pdu

    def _send(self, pdu: Any) -> None:
        assert self._link is not None
        self._link.sendall(pdu.generate())

    def _read(self) -> Any:
        head = self._exactly(4)
        return parse_pdu(head + self._exactly(int.from_bytes(head, "big") - 4), client=self)

    def _exactly(self, size: int) -> bytes:
        assert self._link is not None
        data = b""
        while len(data) < size:
            more = self._link.recv(size - len(data))
            if not more:
                raise ConnectionError("the biller is gone")
            data += more
        return data
