# Makes a key, signs with it and checks the signature. gpg knows the agent by
# the path below its home directory, where a file may say where to go instead.
set -e
at=$(gpgconf --list-dirs agent-socket)
mkdir -p -m 700 "$(dirname "$at")"
printf '%%Assuan%%\nsocket=%s\n' "$1" >"$at"
gpg --batch --quiet --passphrase '' --quick-generate-key 'Fast Bind <fast@bind.example>' ed25519 sign never
echo 'signed through fastbind' | gpg --batch --quiet --clearsign | gpg --batch --verify 2>&1 | grep 'Good signature'
rm "$at"
