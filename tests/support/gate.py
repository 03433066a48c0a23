"""A wait that a test holds open, to change something meanwhile."""

from twisted.internet.defer import Deferred


class Gate:
    """A wait that a test holds open."""

    def __init__(self):
        self.reached, self.opened = Deferred(), Deferred()

    async def wait(self):
        self.reached.callback(None)
        await self.opened

    def hold(self, monkeypatch, owner, name, *, call=1):
        """Hold the answer of the ``call``-th call of a method."""
        real, calls = getattr(owner, name), []

        async def held(*given, **more):
            calls.append(name)
            this = len(calls)
            answer = await real(*given, **more)
            if this == call:
                await self.wait()
            return answer

        monkeypatch.setattr(owner, name, held)
