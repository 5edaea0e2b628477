"""Scales for Python as a client of the benchmark: ThriftMux with its default stack, one greenlet for each call in flight.

Lines of JSON come in and go out, as those of the other clients do (`../src/Child.ts`).
"""
import json
import os
import resource
import sys
import time

import gevent
from echo import Echo
from echo.ttypes import Message
from scales.thriftmux import ThriftMux
from scales.varz import Source

# Scales compares the keys of its metrics by `__cmp__`, which Python 3 does not know: no two are equal, each call adds series, and after twenty
# thousand calls one takes milliseconds. This is what Python 2 made of it.
Source.__eq__ = lambda self, other: isinstance(other, Source) and self.to_tuple() == other.to_tuple()

SETTLE = 0.04
ITEMS = [1, 2, 3, 4]
SHORTEST = "hello world hello world"


def message_of(payload):
    length = len(SHORTEST) + payload - 86
    text = ("hello world " * (length // 12 + 1))[:length]
    return Message(text=text, number=12, items=ITEMS)


def replies_within(count, millis):
    """Waits so long, and longer when there is no reply by then. Gives how many there were, and how many seconds it was."""
    before = count()
    started = time.perf_counter()
    for _ in range(20):
        gevent.sleep(millis / 1000.0)
        if count() > before:
            return count() - before, time.perf_counter() - started
    raise ValueError("no reply within %d ms" % ((time.perf_counter() - started) * 1000))


class Client(object):
    def __init__(self, ports):
        uri = "tcp://" + ",".join("127.0.0.1:%d" % port for port in ports)
        self.client = ThriftMux.NewClient(Echo.Iface, uri)

    def call(self, message):
        reply = self.client.passMessage(message)
        if reply.text != message.text or reply.number != message.number or reply.items != message.items:
            raise ValueError("wrong reply: %r" % (reply,))

    def drive(self, in_flight, message, during, latencies=None):
        """Runs `during` while so many greenlets call, one call after the other; it is given the count of replies."""
        load = {"running": True, "replies": 0}

        def count():
            return load["replies"]

        def loop():
            while load["running"]:
                began = time.perf_counter()
                self.call(message)
                load["replies"] += 1
                if latencies is not None:
                    latencies.append(time.perf_counter() - began)

        loops = [gevent.spawn(loop) for _ in range(in_flight)]
        gevent.sleep(SETTLE)
        try:
            if latencies is not None:
                del latencies[:]
            return during(count)
        finally:
            load["running"] = False
            gevent.joinall(loops, raise_error=True)

    def measure(self, in_flight, message, millis):
        def during(count):
            before = resource.getrusage(resource.RUSAGE_SELF)
            calls, elapsed = replies_within(count, millis)
            after = resource.getrusage(resource.RUSAGE_SELF)
            return {
                "userMicros": (after.ru_utime - before.ru_utime) * 1e6 / calls,
                "systemMicros": (after.ru_stime - before.ru_stime) * 1e6 / calls,
                "callsPerSecond": calls / elapsed,
            }

        return self.drive(in_flight, message, during)

    def closed(self, in_flight, message, millis):
        latencies = []

        def during(count):
            calls, elapsed = replies_within(count, millis)
            return calls / elapsed

        per_second = self.drive(in_flight, message, during, latencies)
        return dict(quantiles(latencies), callsPerSecond=per_second)

    def open(self, rate, message, millis):
        """Each call is timed from when it should have begun."""
        latencies = []
        started = time.perf_counter()
        total = int((SETTLE + millis / 1000.0) * rate) + 1

        def one(due):
            self.call(message)
            if due >= SETTLE:
                latencies.append(time.perf_counter() - started - due)

        calls = []
        while len(calls) < total:
            due = min(int((time.perf_counter() - started) * rate) + 1, total)
            while len(calls) < due:
                calls.append(gevent.spawn(one, len(calls) / rate))
            gevent.sleep(0)
        gevent.joinall(calls, raise_error=True)
        elapsed = time.perf_counter() - started - SETTLE
        return dict(quantiles(latencies), callsPerSecond=len(latencies) / elapsed)


def quantiles(latencies):
    ordered = sorted(latencies)

    def at(share):
        return ordered[-int(-share * len(ordered) // 1) - 1] * 1e6

    return {"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "calls": len(ordered)}


def resident():
    if not os.path.exists("/proc/self/statm"):
        return None
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def answer(client, question):
    kind = question["_tag"]
    message = message_of(question["payload"])
    if kind == "Measure":
        return {"_tag": "Sampled", "sample": client.measure(question["inFlight"], message, question["millis"])}
    if kind == "Closed":
        return {"_tag": "Timed", "timed": client.closed(question["inFlight"], message, question["millis"])}
    if kind == "Open":
        return {"_tag": "Timed", "timed": client.open(question["rate"], message, question["millis"])}
    if kind == "Memory":
        # Python counts no allocations.
        client.drive(question["inFlight"], message, lambda count: gevent.sleep(question["millis"] / 1000.0))
        return {"_tag": "Remembered", "memory": {"allocatedBytes": None, "residentBytes": resident()}}
    raise ValueError("no question called " + kind)


def say(what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(ports):
    client = Client(ports)
    client.call(message_of(86))
    say({"_tag": "Ready", "ports": ports})
    while True:
        # In a thread: gevent's loop goes on, for pings.
        line = gevent.get_hub().threadpool.apply(sys.stdin.readline)
        if not line or json.loads(line)["_tag"] == "Close":
            os._exit(0)
        try:
            say(answer(client, json.loads(line)))
        except Exception as error:
            say({"_tag": "Failed", "error": repr(error)})


main([int(port) for port in sys.argv[1:]])
