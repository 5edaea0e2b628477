"""A client of ThriftTest.thrift on Python's Thrift library: calls every method of a server and checks what it answers."""
import math
import sys
import uuid

from thrift.Thrift import TApplicationException
from thrift.protocol.TMultiplexedProtocol import TMultiplexedProtocol
from thrift.transport.TSocket import TSocket

import wire
from console import commands, say
from thrifttest import SecondService, ThriftTest
from thrifttest.ttypes import Insanity, Numberz, Xception, Xception2, Xtruct, Xtruct2

TEXTS = [
    "Test",
    "Python" * 20,
    "",
    'quote " backslash \\ slash / \b\f\n\r\t \x00 \x7f all "\\/\b\n\r\t ]] "]] \\" }}}{ [[[ ',
    "català, Ελληνικά, Русский, Հայերեն, עברית, العربية, नेपाली, বাংলা, ไทย, ქართული, አማርኛ, ᏣᎳᎩ, 中文, 日本語, 한국어, 𐌲𐌿𐍄𐌹𐍃𐌺, 😀",
    "x" * 100_000,
]
DOUBLES = [-5.2098523, 7.012052175215044, -5.325098235, -5.235098235, 0.0, -0.0, -1.0, -0.000341012439638598279, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf]

ZERO = Xtruct(string_thing="Zero", byte_thing=1, i32_thing=-3, i64_thing=-5)
MAP_MAP = {4: {1: 1, 2: 2, 3: 3, 4: 4}, -4: {-1: -1, -2: -2, -3: -3, -4: -4}}
INSANITY = Insanity(
    userMap={Numberz.FIVE: 5, Numberz.EIGHT: 8},
    xtructs=[
        Xtruct(string_thing="Goodbye4", byte_thing=4, i32_thing=4, i64_thing=4),
        Xtruct(string_thing="Hello2", byte_thing=2, i32_thing=2, i64_thing=2),
    ],
)

# What each of these methods is called with, which is what it answers.
SAME = {
    "testString": TEXTS,
    "testBool": [True, False],
    "testByte": [1, 0, -1, 63, 127, -127, -128],
    "testI32": [-1, 0, 1, 2**31 - 1, -(2**31)],
    "testI64": [1, 5, -5, -34359738368, 734359738368, -734359738368, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)],
    "testBinary": [bytes(range(256)), b""],
    "testUuid": [uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"), uuid.UUID(int=2**128 - 1), uuid.uuid4()],
    "testStruct": [ZERO, Xtruct(string_thing="Zero", byte_thing=1, i32_thing=-3, i64_thing=1000000)],
    "testNest": [Xtruct2(byte_thing=1, struct_thing=ZERO, i32_thing=5), Xtruct2(byte_thing=0, struct_thing=ZERO, i32_thing=0)],
    "testMap": [{i: i - 10 for i in range(5)}, {0: 1, 1: 2, 2: 3, 3: 4, -1: -2}, {}],
    "testStringMap": [{"a": "123", "a b": "with spaces ", "same": "same", "0": "numeric key", "long": TEXTS[4], TEXTS[4]: "long key"}, {}],
    "testSet": [{1, 2, 3}, {8, 1, 42}, {-2, -1, 0, 1, 2}, set()],
    "testList": [list(range(1, 21)), [1, 4, 9, -42], [-2, -1, 0, 1, 2], []],
    "testEnum": list(Numberz),
    "testTypedef": [69, 0xFFFFFFFFFFFFFF, 309858235082523],
}


def equal(what, answered, expected):
    if answered != expected:
        raise AssertionError("%s answered %r, not %r" % (what, answered, expected))


def fails(what, error, call, *args):
    try:
        answered = call(*args)
    except error as failure:
        return failure
    raise AssertionError("%s answered %r, and should have failed with %s" % (what, answered, error.__name__))


def check(client, second, uuids):
    equal("testVoid", client.testVoid(), None)
    for method, things in SAME.items():
        if method == "testUuid" and not uuids:
            continue
        for thing in things:
            equal(method, getattr(client, method)(thing), thing)
    equal("testMapMap", client.testMapMap(42), MAP_MAP)

    insane = client.testInsanity(INSANITY)
    equal("testInsanity", sorted(insane), [1, 2])
    equal("testInsanity", insane[1], {Numberz.TWO: INSANITY, Numberz.THREE: INSANITY})
    equal("testInsanity", list(insane[2]), [Numberz.SIX])
    # An empty container may be left out.
    equal("testInsanity", [insane[2][Numberz.SIX].userMap or {}, insane[2][Numberz.SIX].xtructs or []], [{}, []])

    multi = client.testMulti(74, 0xFF00FF, 0xFFFFFFFFD0D0, {0: "abc", -32768: "", 32767: "x"}, Numberz.FIVE, 0xF0F0F0)
    equal("testMulti", multi, Xtruct(string_thing="Hello2", byte_thing=74, i32_thing=0xFF00FF, i64_thing=0xFFFFFFFFD0D0))

    for safe in ["Safe", "success"]:
        equal("testException", client.testException(safe), None)
    thrown = fails("testException", Xception, client.testException, "Xception")
    equal("testException", (thrown.errorCode, thrown.message), (1001, "Xception"))
    fails("testException", TApplicationException, client.testException, "TException")

    thrown = fails("testMultiException", Xception, client.testMultiException, "Xception", "ignored")
    equal("testMultiException", (thrown.errorCode, thrown.message), (1001, "This is an Xception"))
    thrown = fails("testMultiException", Xception2, client.testMultiException, "Xception2", "ignored")
    equal("testMultiException", (thrown.errorCode, thrown.struct_thing.string_thing), (2002, "This is an Xception2"))
    equal("testMultiException", client.testMultiException("success", "foobar").string_thing, "foobar")

    if second is not None:
        equal("secondtestString", second.secondtestString("foobar"), 'testString("foobar")')

    # A reply to it would be taken for the next call's.
    client.testOneway(0)
    equal("testI32 after testOneway", client.testI32(-1), -1)

    for double in DOUBLES:
        # As text, for which NaN is itself and -0.0 is not 0.0.
        equal("testDouble", repr(client.testDouble(double)), repr(double))


def run(protocol, transport, sharing, port, without_uuid=None):
    connection = wire.TRANSPORTS[transport]().getTransport(TSocket("127.0.0.1", int(port)))
    connection.open()
    try:
        spoken = wire.IN_PYTHON[protocol]().getProtocol(connection)
        if sharing == "plain":
            check(ThriftTest.Client(spoken), None, without_uuid is None)
        else:
            check(
                ThriftTest.Client(TMultiplexedProtocol(spoken, "ThriftTest")),
                SecondService.Client(TMultiplexedProtocol(spoken, "SecondService")),
                without_uuid is None,
            )
    finally:
        connection.close()


def main():
    failed = 0
    say("READY")
    for command, words in commands():
        try:
            if words[0] != "run":
                raise ValueError("a client knows only run")
            run(*words[1:])
            say("OK", id=command)
        except Exception as error:
            failed = 1
            say("ERROR", id=command, message="%s: %s" % (type(error).__name__, error))
    sys.exit(failed)


if __name__ == "__main__":
    main()
