"""Lines between this program and who started it: words come in, READY, OK, ERROR and EVENT with a JSON object go out."""
import json
import sys
import threading

_writing = threading.Lock()


def say(kind, **fields):
    """Writes one line; any thread may."""
    with _writing:
        sys.stdout.write("%s %s\n" % (kind, json.dumps(fields)))
        sys.stdout.flush()


def commands():
    """The commands until stdin ends: each is its id and its words."""
    for line in sys.stdin:
        first, *words = line.split()
        yield first[1:], words
