"""A stand-in for starpy's AMI, with starpy's own weaknesses: it has no deadlines, and a loss calls back success."""

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver


class AMICommandFailure(Exception):
    """Named as starpy's."""


class StandInManager(LineOnlyReceiver):
    amiVersion = None

    def __init__(self):
        self.listeners, self.callbacks, self.lines, self.count = {}, {}, [], 0

    def connectionMade(self):
        self.sendMessage(
            [["Action", "Login"], ["Username", self.factory.username], ["Secret", self.factory.secret]], self._login
        )

    def _login(self, message):
        self.callbacks.clear()
        if message["response"] == "Success":
            self.factory.waiting.callback(self)
        else:
            self.transport.loseConnection()
            self.factory.waiting.errback(AMICommandFailure("Unable to connect to manager", message))

    def lineReceived(self, line):
        text = line.decode("utf-8")
        if text.startswith("Asterisk Call Manager"):
            self.amiVersion = text.partition("/")[2]
        elif text:
            self.lines.append(text)
        else:
            pairs = [each.split(":", 1) for each in self.lines]
            self.lines = []
            message = {key.lower().strip(): value.strip() for key, value in pairs}
            self.callbacks.get(message.get("actionid"), lambda _: None)(message)
            for each in self.listeners.get(message.get("event"), []):
                each(self, message)

    def connectionLost(self, reason):
        for each in self.callbacks.values():
            each(ConnectionDone("FastAGI connection terminated"))

    def sendMessage(self, message, callback):
        self.count += 1
        action_id = f"stand-in-{self.count}"
        self.callbacks[action_id] = callback
        for key, value in [*message, ["actionid", action_id]]:
            self.sendLine(f"{key.lower()}: {value}".encode())
        self.sendLine(b"")
        return action_id

    def cleanup(self, result, action_id):
        del self.callbacks[action_id]
        return result

    def registerEvent(self, names, function):
        for each in names:
            self.listeners.setdefault(each, []).append(function)

    def deregisterEvent(self, names):
        return None not in [self.listeners.pop(each, None) for each in names]


class StandInFactory(Factory):
    protocol = StandInManager

    def __init__(self, username, secret):
        self.username, self.secret, self.waiting = username, secret, Deferred()

    def login(self, ip, port, timeout):
        endpoint = TCP4ClientEndpoint(reactor, ip, port, timeout=timeout)
        endpoint.connect(self).addErrback(self.waiting.errback)
        return self.waiting
