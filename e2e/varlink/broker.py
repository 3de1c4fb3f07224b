"""Drives a standing broker with a Varlink client that is not ours."""

import sys

import varlink

(socket,) = sys.argv[1:]
client = varlink.Client("unix:" + socket)
print("interfaces", sorted(client.get_interfaces()))


def refused(call):
    try:
        call()
    except varlink.VarlinkError as error:
        print("refused", error.error(), sorted(error.parameters() or {}))


with client.open("io.fastbind.Broker") as broker, client.open("io.fastbind.Broker") as watcher:
    (service,) = broker.List(format=None)["services"]
    print("list", service["name"], service["state"], service["holding"])

    events = watcher.Events(names=["held"], format=1, _more=True)
    print("watching", "event" in next(events))
    service = broker.Launch(name="held", ready=True, format=1)["service"]
    print("launched", service["state"], service["generation"], service["pid"] > 0)
    event = next(events)["event"]
    print("event", event["event"], event["service"], event["generation"])

    described = broker.Describe(name="held", format=1)
    print("described", {"key": "foreign", "value": "true"} in described["definition"], described["cut"])
    counts = [reply["services"] for reply in broker.Metrics(format=1, _more=True)]
    print("metrics", [(c["service"], c["launches"], sum(c["launch"]["counts"])) for part in counts for c in part])
    service = broker.Restart(name="held", format=1)["service"]
    print("restarted", service["generation"])
    broker.Stop(name="held", format=1)
    print("stopped")
    refused(lambda: broker.Stop(name="held", format=1))
    refused(lambda: broker.Launch(name="nobody", ready=None, format=1))
    refused(lambda: broker.List(format=9))
    broker.Disable(name="held", format=1)
    print("disabled", broker.List(format=1)["services"])
    broker.Enable(name="held", format=1)
    broker.Reload(format=1)
    broker.Reset(name="held", format=1)
    print("enabled", [s["name"] for s in broker.List(format=1)["services"]])
