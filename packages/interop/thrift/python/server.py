"""The servers of ThriftTest.thrift on Python's Thrift library: one for each way to call them, each on a port of its own; and over HTTP."""
import sys
import threading
import time
from http.server import ThreadingHTTPServer

from thrift.TMultiplexedProcessor import TMultiplexedProcessor
from thrift.Thrift import TException
from thrift.server.THttpServer import THttpServer
from thrift.server.TServer import TThreadedServer
from thrift.transport.TSocket import TServerSocket

import wire
from console import commands, say
from thrifttest import SecondService, ThriftTest
from thrifttest.ttypes import Insanity, Numberz, Xception, Xception2, Xtruct


def same(self, thing):
    return thing


class Handler:
    """Does what the IDL says of each method."""

    testString = testBool = testByte = testI32 = testI64 = testDouble = testBinary = testUuid = same
    testStruct = testNest = testMap = testStringMap = testSet = testList = testEnum = testTypedef = same

    def __init__(self, way):
        self.way = way

    def testVoid(self):
        pass

    def testMapMap(self, hello):
        return {4: {i: i for i in range(1, 5)}, -4: {-i: -i for i in range(1, 5)}}

    def testInsanity(self, argument):
        return {1: {Numberz.TWO: argument, Numberz.THREE: argument}, 2: {Numberz.SIX: Insanity()}}

    def testMulti(self, arg0, arg1, arg2, arg3, arg4, arg5):
        return Xtruct(string_thing="Hello2", byte_thing=arg0, i32_thing=arg1, i64_thing=arg2)

    def testException(self, arg):
        if arg == "Xception":
            raise Xception(errorCode=1001, message=arg)
        if arg == "TException":
            raise TException(arg)

    def testMultiException(self, arg0, arg1):
        if arg0 == "Xception":
            raise Xception(errorCode=1001, message="This is an Xception")
        if arg0 == "Xception2":
            raise Xception2(errorCode=2002, struct_thing=Xtruct(string_thing="This is an Xception2"))
        return Xtruct(string_thing=arg1)

    def testOneway(self, secondsToSleep):
        say("EVENT oneway", way=self.way, seconds=secondsToSleep)
        time.sleep(secondsToSleep)


class Second:
    def secondtestString(self, thing):
        return 'testString("%s")' % thing


def processor(way, sharing):
    plain = ThriftTest.Processor(Handler(way))
    if sharing == "plain":
        return plain
    both = TMultiplexedProcessor()
    both.registerProcessor("ThriftTest", plain)
    both.registerProcessor("SecondService", SecondService.Processor(Second()))
    return both


class ListeningSocket(TServerSocket):
    """Listens from the start, so that its port is known before it is served."""

    def __init__(self):
        super().__init__("127.0.0.1", 0)
        super().listen()
        self.port = self.handle.getsockname()[1]

    def listen(self):
        pass


def serve(way, protocol, transport, sharing):
    socket = ListeningSocket()
    server = TThreadedServer(
        processor(way, sharing), socket, wire.TRANSPORTS[transport](), wire.IN_C[protocol](), daemon=True
    )
    threading.Thread(target=server.serve, daemon=True).start()
    return socket.port


class ManyConnections(ThreadingHTTPServer):
    """Each call has a connection of its own."""

    request_queue_size = 128


def serve_http(protocol):
    """The library's own server for HTTP. It does not look at the path."""
    handler = ThriftTest.Processor(Handler("%s http" % protocol))
    server = THttpServer(handler, ("127.0.0.1", 0), wire.IN_C[protocol](), server_class=ManyConnections)
    server.httpd.RequestHandlerClass.log_message = lambda self, format, *args: None
    threading.Thread(target=server.serve, daemon=True).start()
    return server.httpd.server_address[1]


def main():
    ports = {}
    for protocol in wire.IN_C:
        for transport in wire.TRANSPORTS:
            for sharing in wire.SHARINGS:
                way = "%s %s %s" % (protocol, transport, sharing)
                ports[way] = serve(way, protocol, transport, sharing)
    say("READY", ports=ports, http={protocol: serve_http(protocol) for protocol in wire.IN_C})
    for _ in commands():
        sys.exit("a server takes no commands")


if __name__ == "__main__":
    main()
