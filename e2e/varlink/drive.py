"""Drives a daemon's control endpoint with a Varlink client that is not ours."""

import os
import sys

import varlink

ctl, directory = sys.argv[1:]
client = varlink.Client("unix:" + ctl)
info = client.get_interfaces()
print("interfaces", sorted(info))

with client.open("io.fastbind.Daemon") as daemon:
    who = daemon.Identify(nonce="n0nce", format=1)
    print("identify", who["nonce"], who["service"], who["phase"], who["pid"] > 0)

    # Every change, to the last.
    phases = [reply["phase"] for reply in daemon.Identify(nonce=None, format=1, _more=True)]
    print("watch", phases)

    try:
        daemon.Lease(directory="/nowhere", pid=None, started_ticks=None)
    except varlink.VarlinkError as error:
        print("refused", error.error(), error.parameters()["reason"])
    daemon.Lease(directory=directory, pid=None, started_ticks=None)
    print("leases", daemon.Identify(nonce=None, format=None)["leases"])

    print("stacks", "goroutine" in daemon.Stacks()["stacks"])
    try:
        daemon.TakeOver()
    except varlink.VarlinkError as error:
        print("refused", error.error())
    daemon.Drain()
    print("drained")
