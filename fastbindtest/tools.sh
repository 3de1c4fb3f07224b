#!/usr/bin/env bash
# Judges well-known tools by fastbind check as they are, each through its own
# client, and prints the table of docs/check.md.
#
#   fastbindtest/tools.sh [TOOL…]
#
# It needs Debian with network access to its packages, npm and the Go module
# proxy, and root, for apt-get and a network namespace for each tool. It takes
# about half an hour, most of it spent on clients that wait for a stopped daemon.
# What was installed outside of its temporary directory are the Debian packages.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where the tools go; one that is named is kept for the next run.
work=${FASTBINDTEST_TOOLS:-}
if [ -z "$work" ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work/bin" "$work/reports"

npm=(@biomejs/biome@2.6.8 eslint@10.15.0 eslint_d@15.0.3 @fsouza/prettierd@0.29.0 turbo@2.11.11)
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

judge dmypy 'dmypy --version' --stop 'dmypy stop' --status 'dmypy status' \
	--client 'echo "x: int = 1" >$$.py && dmypy run -- $$.py'

judge emacsclient 'emacs --version' --client "emacsclient -a '' --eval '(emacs-pid)'" --stop "emacsclient --eval '(kill-emacs)'" \
	--status "emacsclient --eval '(emacs-pid)'"

# The project's own eslint is what it runs.
judge eslint_d 'eslint_d --version' --env "NODE_PATH=$work/node_modules" --stop 'eslint_d stop' --status 'eslint_d status' \
	--client "ln -sfn $work/node_modules node_modules; echo 'module.exports = []' >eslint.config.js; echo 'x()' >\$\$.js; eslint_d \$\$.js"

judge git-credential-cache 'git --version' --stop 'git credential-cache exit' --status 'echo host=example.com | git credential-cache get' \
	--client 'printf "protocol=https\nhost=example.com\nusername=u\npassword=p\n" | git credential-cache store'

judge gopls 'gopls version | sed -n s/golang.org.*@/gopls@/p' --idle-exit 2s \
	--env GOTELEMETRY=off --env "GOROOT=$(go env GOROOT)" --env "GOFLAGS=-mod=mod" \
	--client 'printf "module x\n\ngo 1.20\n" >go.mod; echo "package x" >x.go; gopls -remote=auto -remote.listen.timeout={idle} check x.go'

judge gpg-connect-agent 'gpg-connect-agent --version' --client "mkdir -m 700 -p ~/.gnupg; gpg-connect-agent 'GETINFO pid' /bye" --expect '^D [0-9]+' \
	--stop 'gpgconf --kill gpg-agent' --status "gpg-connect-agent --no-autostart 'GETINFO pid' /bye"

judge prettierd 'prettierd --version' --stop 'prettierd stop' --status 'prettierd status' \
	--client "echo 'x( )' | prettierd x.js" --expect '^x\(\);$'

judge sccache 'sccache --version' --stop 'sccache --stop-server' --status 'sccache --show-stats' \
	--idle-exit 2s --env 'SCCACHE_IDLE_TIMEOUT={idle_seconds}' \
	--client 'echo "int x;" >$$.c && sccache gcc -c $$.c -o $$.o'

# A server that stays without a session: a session's shell has its client's directory by intent.
judge tmux 'tmux -V' --env 'TMUX_TMPDIR={dir}/tmp' --client "tmux -f /dev/null start-server ';' set -s exit-empty off" --stop 'tmux kill-server' \
	--status 'tmux list-sessions'

judge turbo 'turbo --version' --stop 'turbo daemon stop' --status 'turbo daemon status' \
	--client 'echo "{\"name\":\"x\",\"packageManager\":\"npm@10.0.0\"}" >package.json; echo "{}" >turbo.json; turbo daemon start'

w='watchman --sockname={dir}/run/watchman.sock --logfile={dir}/home/watchman.log --statefile={dir}/home/watchman.state --pidfile={dir}/home/watchman.pid'
judge watchman 'watchman --version' --client "$w get-pid" --stop "$w shutdown-server" --status "$w --no-spawn get-pid"

python3 - "$work/reports" <<'PYTHON'
import glob, json, os, sys

marks = {"holds": "✓", "broken": "✗", "not applicable": "–", "undecided": "?"}
reports = {}
for path in sorted(glob.glob(sys.argv[1] + "/*.json")):
    name = os.path.basename(path)[:-5]
    report = json.load(open(path))
    version = open(path[:-5] + ".version").read().strip()
    reports[name] = (version, {c["name"]: c for c in report["cases"] or []}, report["error"])
cases = [c["name"] for _, found, _ in reports.values() for c in found.values() if c["outcome"] != "not applicable"]
order = [n for n in dict.fromkeys(c for _, found, _ in reports.values() for c in found) if n in cases]
print("| tool | version | " + " | ".join(order) + " |")
print("|---|---|" + "---|" * len(order))
for name, (version, found, error) in reports.items():
    print("| %s | %s | " % (name, version) + " | ".join(marks[found[c]["outcome"]] if c in found else "?" for c in order) + " |")
print()
print("| tool | case | what was seen |")
print("|---|---|---|")
for name, (_, found, error) in reports.items():
    if error:
        print("| %s | | %s |" % (name, error["message"]))
    for c in found.values():
        if c["outcome"] in ("broken", "undecided"):
            print("| %s | %s | %s |" % (name, c["name"], c["reason"].replace("|", "\\|").replace("\n", " ")))
PYTHON
