// The type that the compiler learned after 0.17.

struct Named {
  1: uuid id,
  2: list<uuid> more,
  3: map<uuid, string> names
}

service Uuids {
  uuid next(1: uuid previous),
  Named named(1: Named value)
}
