/** Whether a call has been sent to a member before. */
import type { Member } from "../Balancer.ts"
import type { Endpoint } from "../Endpoint.ts"

/** An endpoint is known by its key, whatever else of it has changed. */
export const wasTried = (member: Member, tried: ReadonlyArray<Endpoint>): boolean => {
  for (const { key } of tried) if (key === member.endpoint.key) return true
  return false
}
