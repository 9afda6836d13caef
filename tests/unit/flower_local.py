"""A Flower grid that runs clients in this process, one after the other; messages pass through their bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

#: Where a test stands between a client and the server: the client's number and its reply in, what arrives out.
Wire = Callable[[int, Message], Message]


class LocalGrid(Grid):
    """Clients 1, 2, ... of the given apps.

    Attributes:
        reply_bytes: serialised size of each client's largest reply, as it crossed.
    """

    def __init__(self, apps: Sequence[ClientApp], wire: Wire = lambda node, reply: reply) -> None:
        self.apps, self.wire = dict(enumerate(apps, 1)), wire
        self.contexts = {
            node: Context(1, node, {"partition-id": node}, RecordDict(), {}) for node in self.apps
        }
        self._replies: dict[str, Message] = {}
        self.reply_bytes: dict[int, int] = {}
        # What Flower's launchers set before a server's code runs.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return Run.create_empty(1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            ids.append(message.metadata.message_id)
            node = message.metadata.dst_node_id
            reply = self.apps[node](message_from_proto(message_to_proto(message)), self.contexts[node])
            crossing = message_to_proto(self.wire(node, reply))
            size = len(crossing.SerializeToString())
            self.reply_bytes[node] = max(size, self.reply_bytes.get(node, 0))
            self._replies[message.metadata.message_id] = message_from_proto(crossing)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(at) for at in message_ids if at in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))
