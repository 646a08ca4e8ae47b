"""Connection of two ends: frames go out one at a time, and letters share it piece by piece."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from fedmodel.errors import ProtocolError
from fedmodel.transport.frames import Bye, Head, encode
from fedmodel.transport.payloads import Departure, Part

__all__ = ["Connection", "settle"]

logger = logging.getLogger(__name__)

_GOODBYE_S = 2.0
_SETTLE_S = 0.2


def settle(loop: asyncio.AbstractEventLoop) -> None:
    """End what is left in a loop that is to be closed: gRPC has its own word to say after an end.

    Args:
        loop: that doesn't run any more.
    """

    async def rest() -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(_SETTLE_S)

    loop.run_until_complete(rest())


class Connection:
    """One stream's way out. It belongs to the loop it is made in.

    Args:
        write: sends a message of gRPC; it waits while the other end has no room.
        cut: ends the stream at once.
    """

    def __init__(
        self, write: Callable[[bytes], Awaitable[None]], cut: Callable[[], object]
    ) -> None:
        self._write = write
        self._cut = cut
        self._turn = asyncio.Lock()
        self._tasks: dict[asyncio.Task[None], int] = {}  # and the number of the letter
        self._writing: asyncio.Task[None] | None = None
        self.closed = False

    async def say(self, head: Head, body: Sequence[Part] = ()) -> None:
        """Send a frame; between the pieces of large letters it waits for one of them at most."""
        await self._send(encode(head, body))

    def post(self, departure: Departure, offset: int) -> None:
        """Send a letter from a byte of its payload on, while other frames go on.

        Args:
            departure: the letter.
            offset: that the other end has asked for.
        """
        task = asyncio.get_running_loop().create_task(self._carry(departure, offset))
        self._tasks[task] = departure.seq
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def withdraw(self, seq: int) -> None:
        """Let go of a letter that nobody waits for any more.

        Without that, each letter to an end that reads nothing would be held until it goes. One of
        them is in the middle of a frame: that one goes with the connection.

        Args:
            seq: its number.
        """
        for task, number in self._tasks.items():
            if number == seq and task is not self._writing:
                task.cancel()

    async def end(self, code: str, reason: str = "") -> None:
        """Tell the other end that this is an orderly end, if it still listens; then end it."""
        if self.closed:
            return
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self.say(Bye(code=code, reason=reason[:500]))
        except Exception as error:
            logger.debug("the end couldn't be told: %s", type(error).__name__)
        self.close()

    def close(self) -> None:
        """Send nothing more: the stream has ended."""
        self.closed = True
        for task in self._tasks:
            task.cancel()

    async def _carry(self, departure: Departure, offset: int) -> None:
        try:
            for frame in departure.frames(offset):
                if departure.over or self.closed:
                    return
                await self._send(frame)
        except ProtocolError as error:
            logger.warning("a letter can't go on where the other end says: %s", error)
            self._break()
        except Exception as error:
            # grpc raises half a dozen kinds on a stream that has ended; its reader says so, too.
            logger.debug("the stream ended under a letter: %s", type(error).__name__)
            self._break()

    async def _send(self, frame: bytes) -> None:
        async with self._turn:
            if self.closed:
                raise ConnectionError("the stream has ended")
            self._writing = asyncio.current_task()
            try:
                await self._write(frame)
            finally:
                self._writing = None

    def _break(self) -> None:
        if not self.closed:
            self.close()
            self._cut()
