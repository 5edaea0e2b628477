/** The ways of the cross-test to put a call on a connection, by name, as the npm package does each. */
import thrift from "thrift"

export const protocols = {
  binary: thrift.TBinaryProtocol,
  compact: thrift.TCompactProtocol,
  json: thrift.TJSONProtocol
}

export const transports = { framed: thrift.TFramedTransport, buffered: thrift.TBufferedTransport }
