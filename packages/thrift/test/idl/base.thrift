// What wide.thrift inherits from and borrows over the border of a file.

enum Colour {
  RED = 1,
  GREEN = 5,
  BLUE
}

struct Point {
  1: required i32 x,
  2: required i32 y
}

exception Missing {
  1: string key
}

service Base {
  Point move(1: Point point, 2: i32 by) throws (1: Missing missing),
  void reset()
}
