/**
 * A balancer: calls with one key go to one endpoint, as long as it is up, so that what a server keeps in memory for a key is kept
 * once. It is rendezvous hashing: every endpoint has a score for a key, the highest is taken, and when a server comes or goes only
 * its own keys move. `ThriftMux.layer(Echo, { uri, balancer: byKey(Mux) })`, and `Rpc.context(Key, user)` on calls.
 */
import {
  Balancer,
  type Family,
  type InvalidOption,
  localKey,
  type RpcError,
  type ServerSet,
  type Stack
} from "@scales-rpc/core"
import { Effect, Layer } from "effect"

/** What the endpoint is chosen by; a call without it goes to any. It is not sent. */
export const Key = localKey<string>("key")

/** FNV-1a with a last mix, as a number between 0 and 1, without either. */
const hash = (text: string): number => {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (((h ^ (h >>> 16)) >>> 0) + 0.5) / 2 ** 32
}

/** Chooses by key. It asks every member at every call, so it needs to hear of nothing but who is there. */
const makePicker = ({ stack }: Balancer.Control): Balancer.Picker => {
  const members = new Set<Balancer.Member>()
  const ignore = () => {}
  return {
    add: (member) => void members.add(member),
    remove: (member) => void members.delete(member),
    changed: ignore,
    began: ignore,
    ended: ignore,
    // Usable before busy before down, not tried before tried; among equals the highest score.
    pick: (tried, call) => {
      const key = call?.context.get(Key)
      let best: Balancer.Member | undefined
      let bestClass = Infinity
      let bestScore = 0
      for (const member of members) {
        const { endpoint, rank } = member
        const memberClass = 2 * rank + (tried.some((other) => other.key === endpoint.key) ? 1 : 0)
        const chance = key === undefined ? stack.random() : hash(`${key}\n${endpoint.key}`)
        const score = -endpoint.weight / Math.log(chance)
        if (memberClass < bestClass || (memberClass === bestClass && score > bestScore)) {
          best = member
          bestClass = memberClass
          bestScore = score
        }
      }
      return best
    }
  }
}

/** The balancer for a family. Fails with `InvalidOption` for a `whenEmpty` that is none. */
export const byKey = <Id extends string, Req, Res, E>(
  family: Family<Id, Req, Res, E | RpcError>,
  options: Balancer.BalancerOptions = {}
): Layer.Layer<`${Id}/Balanced`, InvalidOption, `${Id}/Endpoints` | ServerSet | Stack> =>
  Layer.effect(
    family.Balanced,
    Balancer.assemble(family, {
      description: "sends the calls of one key to one endpoint",
      options: {},
      common: options,
      picker: (control) => Effect.sync(() => makePicker(control))
    })
  )
