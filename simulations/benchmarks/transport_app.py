"""The apps that both networks carry: sites that send back what comes, and who asks them.

Flower starts its processes' apps from here too, so that both do the same work.
"""

import json
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

__all__ = ["Asker", "client", "obey", "server"]

_JOINING_S = 180.0
_ANSWER_S = 900.0

client = ClientApp()
server = ServerApp()


@client.train()
def echo(message: Message, context: Context) -> Message:
    """Send back what has come."""
    return Message(message.content, reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Do what the benchmark orders, which listens at a Unix socket."""
    obey(str(context.run_config["socket"]), Asker(grid))


class Asker:
    """Asks all sites of a grid for one array back.

    Args:
        grid: to the sites.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._data = b""
        self._content = RecordDict()
        self._replies: list[Message] = []

    def wait(self, sites: int) -> int:
        """Wait until so many sites are there; return how many are."""
        end = time.monotonic() + _JOINING_S
        while (found := self._present()) < sites and time.monotonic() < end:
            time.sleep(0.1)
        return found

    def make(self, count: int) -> None:
        """Make the array: so many numbers, in as many bytes as they need and no more."""
        size = 4 * count
        period = min(size, 1_000_000)
        self._data = os.urandom(period) * (size // period)
        array = Array("float32", (count,), "raw", self._data)
        self._content = RecordDict({"arrays": ArrayRecord({"array": array})})

    def ask(self, nodes: Sequence[int], times: int) -> list[float]:
        """Send the array to sites and take it back, some times; return the seconds of each.

        Args:
            nodes: of the sites; empty: all that there are.
            times: how often.
        """
        to = list(nodes) or list(self._grid.get_node_ids())
        walls = []
        for _ in range(times):
            self._replies = []
            start = time.perf_counter()
            messages = [Message(self._content, node, "train") for node in to]
            self._replies = list(self._grid.send_and_receive(messages, timeout=_ANSWER_S))
            walls.append(time.perf_counter() - start)
        return walls

    def check(self) -> str:
        """Return what is wrong with the last replies; empty: they are the array, every one."""
        for reply in self._replies:
            if reply.has_error():
                return str(reply.error.reason)
            array: Any = reply.content["arrays"]["array"]
            if array.data != self._data:
                return "another array has come back"
        return "" if self._replies else "nobody has answered"

    def forget(self) -> None:
        """Forget array and replies."""
        self._replies, self._data, self._content = [], b"", RecordDict()

    def _present(self) -> int:
        incarnations = getattr(self._grid, "incarnations", self._grid.get_node_ids)
        return len(list(incarnations()))


def obey(path: str, actor: object) -> None:
    """Do what comes over a Unix socket, a line of JSON each, until it ends.

    Args:
        path: of the socket.
        actor: whose methods are called: ``[NAME, ARGUMENT, …]``; each result is sent back.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        with connection.makefile("rw") as lines:
            for line in lines:
                name, *arguments = json.loads(line)
                print(json.dumps(getattr(actor, name)(*arguments)), file=lines, flush=True)
