/** What each alert of the operations guide fires at, and what it does not: series as `promtool test rules` reads them, a value a minute. */

/** One alert: the beginning of its query says which, in the order of the guide. */
export interface Alert {
  /** A word of its query that no other has. */
  readonly names: string
  readonly fires: Readonly<Record<string, string>>
  readonly quiet: Readonly<Record<string, string>>
}

/** For ten minutes. */
const always = (value: number): string => `${value}x15`
const growing = (step: number, from = 0): string => `${from}+${step}x15`
/** Nothing for five minutes, then so much more each minute. */
const later = (step: number): string => `${Array.from({ length: 6 }, () => "0").join(" ")} ${step}+${step}x9`

const call = `client="echo",service="Echo",method="ping"`

/** All of them. */
export const alerts: ReadonlyArray<Alert> = [
  {
    names: "scales_call_failures",
    fires: {
      // All at once, between two scrapes.
      [`scales_call_requests{${call}}`]: "100x6 1100x9",
      [`scales_call_failed{${call}}`]: "0x6 1000x9",
      [`scales_call_failures{${call},error="ConnectionClosed"}`]: "_x6 1000x9"
    },
    quiet: {
      [`scales_call_requests{${call}}`]: growing(600),
      [`scales_call_failed{${call}}`]: growing(301),
      [`scales_call_failures{${call},error="Timeout"}`]: growing(1),
      [`scales_call_failures{${call},error="ThriftException"}`]: growing(300)
    }
  },
  {
    names: "histogram_quantile",
    fires: {
      [`scales_call_latency_ms_bucket{${call},le="256"}`]: growing(10),
      [`scales_call_latency_ms_bucket{${call},le="512"}`]: growing(100),
      [`scales_call_latency_ms_bucket{${call},le="+Inf"}`]: growing(100)
    },
    quiet: {
      [`scales_call_latency_ms_bucket{${call},le="128"}`]: growing(100),
      [`scales_call_latency_ms_bucket{${call},le="256"}`]: growing(100),
      [`scales_call_latency_ms_bucket{${call},le="+Inf"}`]: growing(100)
    }
  },
  {
    names: "scales_balancer_usable",
    fires: { [`scales_balancer_usable{client="echo"}`]: always(0), [`scales_balancer_size{client="echo"}`]: always(3) },
    quiet: { [`scales_balancer_usable{client="echo"}`]: always(0), [`scales_balancer_size{client="echo"}`]: always(0) }
  },
  {
    names: "scales_balancer_busy",
    fires: {
      [`scales_balancer_down{client="echo"}`]: always(1),
      [`scales_balancer_busy{client="echo"}`]: always(1),
      [`scales_balancer_size{client="echo"}`]: always(5)
    },
    quiet: {
      [`scales_balancer_down{client="echo"}`]: always(1),
      [`scales_balancer_busy{client="echo"}`]: always(0),
      [`scales_balancer_size{client="echo"}`]: always(5)
    }
  },
  {
    names: "scales_endpoint_failed",
    fires: {
      [`scales_endpoint_attempts{client="echo",endpoint="a:1"}`]: growing(600),
      [`scales_endpoint_failed{client="echo",endpoint="a:1"}`]: growing(500)
    },
    quiet: {
      [`scales_endpoint_attempts{client="echo",endpoint="a:1"}`]: growing(6),
      [`scales_endpoint_failed{client="echo",endpoint="a:1"}`]: growing(6)
    }
  },
  {
    names: "scales_budget_exhausted",
    fires: { [`scales_budget_exhausted{client="echo"}`]: later(3) },
    quiet: { [`scales_budget_exhausted{client="echo"}`]: always(7) }
  },
  {
    names: "scales_accrual_removals",
    fires: {
      [`scales_accrual_removals{client="echo"}`]: growing(1),
      [`scales_resurrector_downs{client="echo"}`]: always(0)
    },
    quiet: {
      [`scales_accrual_removals{client="echo"}`]: always(40),
      [`scales_resurrector_downs{client="echo"}`]: growing(1)
    }
  },
  {
    names: "scales_pool_waiting",
    fires: { [`scales_pool_waiting{client="echo"}`]: "0x9 500 0x5" },
    quiet: { [`scales_pool_waiting{client="echo"}`]: always(50) }
  },
  {
    names: "scales_discovery_state",
    fires: { [`scales_discovery_state{client="echo"}`]: always(3) },
    quiet: { [`scales_discovery_state{client="echo"}`]: always(1) }
  },
  {
    names: "scales_zookeeper_session",
    fires: {
      [`scales_zookeeper_session{connect="zk:2181",state="Connected"}`]: "1x5 0x10",
      [`scales_zookeeper_session{connect="zk:2181",state="Connecting"}`]: "0x5 1x10"
    },
    quiet: {
      [`scales_zookeeper_session{connect="zk:2181",state="Connected"}`]: always(1),
      [`scales_zookeeper_session{connect="zk:2181",state="Connecting"}`]: always(0)
    }
  },
  {
    names: "scales_mux_ping_timeouts",
    fires: {
      [`scales_mux_ping_timeouts{client="echo"}`]: growing(1),
      [`scales_mux_protocol_errors{client="echo"}`]: always(0)
    },
    quiet: {
      [`scales_mux_ping_timeouts{client="echo"}`]: always(9),
      [`scales_mux_protocol_errors{client="echo"}`]: always(2)
    }
  },
  {
    names: "scales_server_deaths",
    fires: { [`scales_server_deaths{server="echo"}`]: later(1), [`scales_server_expired{server="echo"}`]: always(0) },
    quiet: { [`scales_server_deaths{server="echo"}`]: always(3), [`scales_server_expired{server="echo"}`]: growing(6) }
  }
]

/** The query as a rule, and the tests of it: what it fires at is there after ten minutes. */
export const rulesOf = (queries: ReadonlyArray<string>): Readonly<Record<string, string>> => {
  const rules = queries.map((query, i) =>
    `    - { alert: A${i}, expr: ${JSON.stringify(query.replaceAll("\n", " "))} }`
  )
  const inputs = (series: Readonly<Record<string, string>>) =>
    Object.entries(series).map(([name, values]) => `      - { series: '${name}', values: '${values}' }`).join("\n")
  const tests = alerts.flatMap(({ fires, names, quiet }) => {
    const i = queries.findIndex((query) => query.includes(names))
    const test = (series: Readonly<Record<string, string>>, firing: number) =>
      `  - interval: 1m\n    input_series:\n${
        inputs(series)
      }\n    promql_expr_test:\n      - expr: 'count(ALERTS{alertname="A${i}",alertstate="firing"}) or vector(0)'\n` +
      `        eval_time: 10m\n        exp_samples: [{ labels: '{}', value: ${firing} }]`
    return [test(fires, 1), test(quiet, 0)]
  })
  return {
    "rules.yml": `groups:\n- name: guide\n  interval: 1m\n  rules:\n${rules.join("\n")}\n`,
    "tests.yml": `rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n${tests.join("\n")}\n`
  }
}
