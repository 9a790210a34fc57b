#!/usr/bin/env python3
"""A module for Kraken: switches lamps, which are files in the directory "lamps" beside this one.

It needs grpcio and protobuf (requirements.txt). Kraken starts it, with the path of a unix socket in
KRAKEN_SOCKET, and starts it again when it breaks off. It keeps nothing that has to survive: how the
lamps are is found out by looking.
"""

import concurrent.futures
import os
import pathlib
import queue
import threading

import grpc

from kraken.module.v1 import module_pb2 as proto
from kraken.module.v1 import module_pb2_grpc

LAMPS = pathlib.Path(__file__).resolve().parent / "lamps"
LOOK_EVERY_SECONDS = 1.0


class Lamps(module_pb2_grpc.ModuleServicer):
    def __init__(self):
        self.nodes = set()
        self.switched = {}
        # Rung when somebody wants to know now.
        self.news = queue.Queue(maxsize=1)

    def Hello(self, request, context):
        return proto.HelloReply(mutations=["lamp.on", "lamp.off"])

    def Watch(self, nodes, context):
        """Tells how every lamp is: at once, when one was switched, and every second."""
        threading.Thread(target=self.listen, args=(nodes,), daemon=True).start()
        while context.is_active():
            for node in sorted(self.nodes):
                yield self.look(node)
            try:
                self.news.get(timeout=LOOK_EVERY_SECONDS)
            except queue.Empty:
                pass

    def Take(self, order, context):
        node = order.node.name
        lamp = LAMPS / node
        if lamp.is_dir():
            # Nothing that trying again would mend.
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{lamp} is a directory")
        LAMPS.mkdir(exist_ok=True)
        if order.mutation == "lamp.on":
            lamp.touch()
        else:
            lamp.unlink(missing_ok=True)
        self.switched[node] = self.switched.get(node, 0) + 1
        self.ring()
        return proto.Taken()

    def listen(self, nodes):
        """Takes note of the nodes that there are."""
        try:
            for node in nodes:
                if node.gone:
                    self.nodes.discard(node.name)
                elif node.name not in self.nodes:
                    self.nodes.add(node.name)
                    self.ring()
        except grpc.RpcError:
            pass  # Kraken has gone.

    def look(self, node):
        state = "ON" if (LAMPS / node).exists() else "OFF"
        return proto.Discovery(
            node=node,
            values={
                "lamp_state": proto.Value(text=state),
                "lamp.switched": proto.Value(number=self.switched.get(node, 0)),
            },
        )

    def ring(self):
        try:
            self.news.put_nowait(None)
        except queue.Full:
            pass  # It rings already.


def main():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=16))
    module_pb2_grpc.add_ModuleServicer_to_server(Lamps(), server)
    server.add_insecure_port("unix:" + os.environ["KRAKEN_SOCKET"])
    server.start()
    print("the lamp module listens", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
