# Imports an image and makes a volume.
set -e
podman() { command podman --remote --url "unix://$1" "${@:2}"; }
tar -C "$DIR" -c wsgi.py | podman "$1" import - fastbind.example/files:1 >/dev/null 2>&1
podman "$1" images --format '{{.Repository}}:{{.Tag}}'
podman "$1" volume create kept
podman "$1" info --format 'podman {{.Version.Version}}, {{.Store.ImageStore.Number}} image, driver {{.Store.GraphDriverName}}'
