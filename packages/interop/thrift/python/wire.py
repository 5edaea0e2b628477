"""The ways of the cross-test to put a call on a connection, by name, as Python's Thrift library does each."""
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAcceleratedFactory, TBinaryProtocolFactory
from thrift.protocol.TCompactProtocol import TCompactProtocolAcceleratedFactory, TCompactProtocolFactory
from thrift.protocol.TJSONProtocol import TJSONProtocolFactory
from thrift.transport.TTransport import TBufferedTransportFactory, TFramedTransportFactory

TRANSPORTS = {"framed": TFramedTransportFactory, "buffered": TBufferedTransportFactory}

# The library has two of these, one in C: the server is the one, the client the other.
IN_C = {
    "binary": TBinaryProtocolAcceleratedFactory,
    "compact": TCompactProtocolAcceleratedFactory,
    "json": TJSONProtocolFactory,
}
IN_PYTHON = {"binary": TBinaryProtocolFactory, "compact": TCompactProtocolFactory, "json": TJSONProtocolFactory}

SHARINGS = ("plain", "multiplexed")
