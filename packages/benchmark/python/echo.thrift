// What the benchmark calls of ../../examples/idl/echo.thrift.

struct Message {
  1: string text
  2: i64 number
  3: list<i32> items
}

service Echo {
  Message passMessage(1: Message message)
}
