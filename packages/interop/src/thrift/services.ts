/** The services of ThriftTest.thrift, as each compiler writes them. */
import { ThriftService } from "@scales-rpc/thrift"
import * as gen17 from "../../thrift/gen17/ThriftTest_types.js"
import * as ThriftTest17Gen from "../../thrift/gen17/ThriftTest.js"
import * as SecondServiceGen from "../../thrift/gen24/SecondService.js"
import * as gen24 from "../../thrift/gen24/ThriftTest_types.js"
import * as ThriftTestGen from "../../thrift/gen24/ThriftTest.js"

/** The test service, by compiler 0.24. */
export class ThriftTest extends ThriftService<ThriftTest>()("ThriftTest", ThriftTestGen) {}

/** The test service by compiler 0.17, which knows no uuid: without `testUuid`. */
export class ThriftTest17 extends ThriftService<ThriftTest17>()("ThriftTest17", ThriftTest17Gen) {}

/** What a multiplexing server has besides. */
export class SecondService extends ThriftService<SecondService>()("SecondService", SecondServiceGen) {}

/** The classes of structs and exceptions that one of the compilers has written. */
export type Types = Omit<typeof gen24, "Numberz">

/** Those of 0.24. */
export const types24: Types = gen24

/** Those of 0.17: of the same shapes, but each compiler declares an enumeration of its own. */
export const types17 = gen17 as unknown as Types

/** The numbers of the enumeration by name. Of generated code they are no export that Node can see. */
export const Numberz = { ONE: 1, TWO: 2, THREE: 3, FIVE: 5, SIX: 6, EIGHT: 8 } as unknown as typeof gen24.Numberz
