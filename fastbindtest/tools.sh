#!/usr/bin/env bash
# Judges well-known tools by fastbind check as they are, each through its own
# client, and prints the table of docs/check.md.
#
#   fastbindtest/tools.sh [TOOL…]
#
# It needs Debian with network access to its packages, npm and the Go module
# proxy, and root, for apt-get and a network namespace for each tool. It takes
# about 20 minutes. What stays are the Debian packages.
#
# FASTBINDTEST_TOOLS names a directory to install into and to keep.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where the tools go; one that is named is kept for the next run.
work=${FASTBINDTEST_TOOLS:-}
if [ -z "$work" ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work/bin" "$work/reports"

npm=(@biomejs/biome@2.6.8 @fsouza/prettierd@0.29.0 turbo@2.11.11)
debian=(adb emacs-nox gcc libc6-dev git gpg gpg-agent gpgconf iproute2 mypy nodejs npm python3-minimal sccache tmux watchman)
gopls=golang.org/x/tools/gopls@v0.23.0

{
	# No package may start a daemon of the system's: invoke-rc.d(8).
	missing=()
	for p in "${debian[@]}"; do
		dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q ^ii || missing+=("$p")
	done
	if command -v npm >/dev/null && command -v node >/dev/null; then # however they came
		keep=()
		for p in "${missing[@]}"; do case $p in npm | nodejs) ;; *) keep+=("$p") ;; esac; done
		missing=("${keep[@]}")
	fi
	if [ "${#missing[@]}" -gt 0 ]; then
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
		rm -f /usr/sbin/policy-rc.d
	fi
	[ -d "$work/node_modules" ] || npm install --prefix "$work" --no-audit --no-fund --silent "${npm[@]}"
	[ -x "$work/bin/gopls" ] || GOBIN=$work/bin go install "$gopls"
	go build -o "$work/bin/" ./cmd/fastbind
} >&2
export PATH=$work/bin:$work/node_modules/.bin:$PATH

wanted=" $* "
# judge NAME VERSION FLAG…: VERSION is a command that prints it.
judge() {
	local name=$1 version=$2
	shift 2
	[ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || return 0
	echo "== $name" >&2
	{ sh -c "$version" || true; } 2>/dev/null | head -1 >"$work/reports/$name.version"
	# A network of its own: abstract sockets and fixed ports are then the tool's alone.
	unshare -n sh -c 'ip link set lo up && exec "$@"' sh \
		fastbind check --json --hang-within "${HANG_WITHIN:-30s}" --timeout 15m "$@" >"$work/reports/$name.json" || true
}

judge adb 'adb version | sed -n 2p' --client 'adb devices' --stop 'adb kill-server'

judge biome 'biome --version' --client 'biome start' --stop 'biome stop'

judge dmypy 'dmypy --version' --setup 'echo "x: int = 1" >x.py' --client 'dmypy run -- x.py' --stop 'dmypy stop' --status 'dmypy status'

judge emacsclient 'emacs --version' --client "emacsclient -a '' --eval '(emacs-pid)'" --stop "emacsclient --eval '(kill-emacs)'" \
	--status "emacsclient --eval '(emacs-pid)'"

judge git-credential-cache 'git --version' --stop 'git credential-cache exit' --status 'echo host=example.com | git credential-cache get' \
	--client 'printf "protocol=https\nhost=example.com\nusername=u\npassword=p\n" | git credential-cache store'

# An editor that opens and ends a session. A build cache of its own would make
# gopls compile a tool of Go's first.
cat >"$work/bin/gopls-session" <<'SESSION'
#!/usr/bin/env python3
import json, subprocess, sys

gopls = subprocess.Popen(["gopls", "-remote=auto", *sys.argv[1:], "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

def say(**message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    gopls.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    gopls.stdin.flush()

def reply(id):
    while True:
        length = 0
        while (line := gopls.stdout.readline().strip()):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if not length:
            sys.exit("gopls ended without an answer")
        message = json.loads(gopls.stdout.read(length))
        if message.get("id") == id and "method" not in message:
            return message

say(id=1, method="initialize", params={"capabilities": {}})
print(reply(1)["result"]["serverInfo"]["name"])
say(id=2, method="shutdown")
reply(2)
say(method="exit")
gopls.stdin.close()
gopls.wait()
SESSION
chmod +x "$work/bin/gopls-session"
[[ $wanted != "  " && $wanted != *" gopls "* ]] || GOCACHE=$work/go-build go tool buildid "$work/bin/gopls" >/dev/null
judge gopls 'gopls version' --client 'gopls-session -remote.listen.timeout={idle}' --expect ^gopls --idle-exit 2s \
	--status 'gopls -remote=auto remote sessions' --env "GOCACHE=$work/go-build"

judge gpg-connect-agent 'gpg-connect-agent --version' --setup 'mkdir -m 700 -p ~/.gnupg' --client "gpg-connect-agent 'GETINFO pid' /bye" \
	--expect '(?m)^D [0-9]+' --stop 'gpgconf --kill gpg-agent' --status "gpg-connect-agent --no-autostart 'GETINFO pid' /bye"

judge prettierd 'prettierd --version' --stop 'prettierd stop' --status 'prettierd status' \
	--client "echo 'x( )' | prettierd x.js" --expect '^x\(\);$'

judge sccache 'sccache --version' --stop 'sccache --stop-server' --status 'sccache --show-stats' \
	--idle-exit 2s --env 'SCCACHE_IDLE_TIMEOUT={idle_seconds}' \
	--client 'echo "int x;" >$$.c && sccache gcc -c $$.c -o $$.o'

# A server that stays without a session: a session's shell has its client's directory by intent.
judge tmux 'tmux -V' --env 'TMUX_TMPDIR={dir}/tmp' --client "tmux -f /dev/null start-server ';' set -s exit-empty off" --stop 'tmux kill-server' \
	--status 'tmux list-sessions'

judge turbo 'turbo --version' --stop 'turbo daemon stop' --status 'turbo daemon status' --client 'turbo daemon start' \
	--setup 'echo "{\"name\":\"x\",\"packageManager\":\"npm@10.0.0\"}" >package.json && echo "{}" >turbo.json'

w='watchman --sockname={dir}/run/watchman.sock --logfile={dir}/home/watchman.log --statefile={dir}/home/watchman.state --pidfile={dir}/home/watchman.pid'
judge watchman 'watchman --version' --client "$w get-pid" --stop "$w shutdown-server" --status "$w --no-spawn get-pid"

python3 - "$work" <<'PYTHON'
import glob, json, os, re, sys

marks = {"holds": "✓", "broken": "✗", "not applicable": "–", "undecided": "?"}
reports = {}
for path in sorted(glob.glob(sys.argv[1] + "/reports/*.json")):
    name = os.path.basename(path)[:-5]
    report = json.load(open(path))
    version = re.search(r"\d+(\.\d+)+[-.\w]*|$", open(path[:-5] + ".version").read()).group()
    reports[name] = (version, {c["name"]: c for c in report["cases"] or []}, report["error"])
cases = [c["name"] for _, found, _ in reports.values() for c in found.values() if c["outcome"] != "not applicable"]
order = [n for n in dict.fromkeys(c for _, found, _ in reports.values() for c in found) if n in cases]
print("| tool | version | " + " | ".join(order) + " |")
print("|---|---|" + "---|" * len(order))
for name, (version, found, error) in reports.items():
    print("| %s | %s | " % (name, version) + " | ".join(marks[found[c]["outcome"]] if c in found else "?" for c in order) + " |")


def cell(text):
    """Makes text a cell, without what differs from run to run."""
    text = text.replace(sys.argv[1], "$TOOLS")
    text = re.sub(r"(/\w+)*/fbt\d+/[\d.]+", "{dir}", text)
    return text.replace("|", "\\|").replace("\n", " ")


print()
print("| tool | case | what was seen |")
print("|---|---|---|")
for name, (_, found, error) in reports.items():
    if error:
        print("| %s | | %s |" % (name, cell(error["message"])))
    for c in found.values():
        if c["outcome"] in ("broken", "undecided"):
            print("| %s | %s | %s |" % (name, c["name"], cell(c["reason"])))
PYTHON
