# A value set by one client is read by another.
set -e
redis-cli -s "$1" set greeting 'kept by redis'
redis-cli -s "$1" get greeting
