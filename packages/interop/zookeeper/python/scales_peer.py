"""What the Scales library itself makes of a server set: each member that joins or leaves is told."""
import os
import sys

import gevent
from scales.loadbalancer.serverset import ZooKeeperServerSetProvider

from console import commands, say


def main(hosts, path, name=None):
    def tell(what):
        def told(member):
            at = member.service_endpoint if name is None else member.additional_endpoints[name]
            say("EVENT " + what, member=member.name, address=str(at), shard=member.shard, status=member.status)

        return told

    provider = ZooKeeperServerSetProvider(hosts, path, endpoint_name=name)
    provider.Initialize(tell("joined"), tell("left"))
    say("READY")
    # gevent's loop must go on while the end of stdin is awaited.
    gevent.get_hub().threadpool.apply(list, (commands(),))
    os._exit(0)


main(*sys.argv[1:])
