/** Whether a call has been sent to a member before. */
import type { Member } from "../Balancer.ts"
import type { Endpoint } from "../Endpoint.ts"

/** A call that was sent more often avoids the last ones only: each pick looks at all of these, for each member that is one. */
const remembered = 32

/** An endpoint is known by its key, whatever else of it has changed. */
export const wasTried = (member: Member, tried: ReadonlyArray<Endpoint>): boolean => {
  const { key } = member.endpoint
  for (let i = tried.length; i-- > Math.max(0, tried.length - remembered);) if (tried[i]!.key === key) return true
  return false
}
