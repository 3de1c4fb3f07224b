# Two programs of one bus: one waits for the other's signal.
set -e
export DBUS_SESSION_BUS_ADDRESS="unix:path=$1"
dbus-monitor --session "interface='io.fastbind.Test'" >"$DIR/monitor" 2>&1 &
trap "kill $!" EXIT
until grep -q interface=io.fastbind.Test "$DIR/monitor"; do
	dbus-send --session --type=signal / io.fastbind.Test.Hello string:over-the-bus
done
grep -m 1 -o 'string "over-the-bus"' "$DIR/monitor"
