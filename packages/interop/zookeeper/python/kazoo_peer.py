"""Nodes and server sets through kazoo, told over stdin what to do with them."""
import base64
import sys

from kazoo.client import KazooClient

from console import commands, say


def content(word):
    return base64.b64decode(word)


class Nodes:
    """The commands, on one session of kazoo's."""

    def __init__(self, hosts):
        self.zk = KazooClient(hosts=hosts)
        self.zk.start()

    def join(self, path, data):
        self.zk.ensure_path(path)
        made = self.zk.create(path + "/member_", content(data), ephemeral=True, sequence=True)
        return {"name": made.rsplit("/", 1)[1]}

    def make(self, path, data):
        self.zk.create(path, content(data), makepath=True)
        return {}

    def set(self, path, data):
        self.zk.set(path, content(data))
        return {}

    def delete(self, path):
        self.zk.delete(path, recursive=True)
        return {}

    def auth(self, scheme, credentials):
        self.zk.add_auth(scheme, credentials)
        return {}

    def read(self, path):
        """Every child, with its data, who may do what with it, and the session whose ephemeral node it is."""
        children = []
        for name in sorted(self.zk.get_children(path)):
            data, stat = self.zk.get("%s/%s" % (path, name))
            acl, _ = self.zk.get_acls("%s/%s" % (path, name))
            said = [[entry.id.scheme, entry.id.id, entry.perms] for entry in acl]
            owner = "%x" % stat.ephemeralOwner
            children.append({"name": name, "data": data.decode(), "acl": said, "owner": owner})
        return {"children": children}

    def watch(self, path):
        self.zk.ensure_path(path)
        self.zk.ChildrenWatch(path, lambda names: say("EVENT children", path=path, names=sorted(names)))
        return {}


def main(hosts):
    nodes = Nodes(hosts)
    say("READY")
    for ident, (name, *words) in commands():
        try:
            say("OK", id=ident, **getattr(nodes, name)(*words))
        except Exception as error:
            say("ERROR", id=ident, message=repr(error))
    # The nodes of this session leave with it, and not only when the session has timed out.
    nodes.zk.stop()


main(sys.argv[1])
