#!/usr/bin/env bash
# redis-cli in scripts: pipes, mass insertion, scans, other output formats, scripts from a file, a subscriber.
set -euo pipefail

cli() { redis-cli -h "$REDIS_HOST" -p "$REDIS_PORT" "$@"; }
# is WANTED COMMAND…: the command prints exactly this.
is() {
    local wanted=$1 got
    shift
    got=$("$@")
    [ "$got" = "$wanted" ] || { printf 'not so: %s\nwanted: %s\ngot:    %s\n' "$*" "$wanted" "$got"; exit 1; }
}

is OK cli SET k v
is v cli GET k
is '"v"' cli --no-raw GET k
is '(nil)' cli --no-raw GET none
is 3 cli RPUSH l a b c
is "$(printf 'a\nb\nc')" cli LRANGE l 0 -1
is '["a","b","c"]' cli --json LRANGE l 0 -1
is 1 cli HSET h f 1
is '{"f":"1"}' cli -3 --json HGETALL h
is 'ERR value is not an integer or out of range' cli INCR k
printf 'from a pipe' | cli -x SET piped >/dev/null
is 'from a pipe' cli GET piped

# Mass insertion, as its documentation shows.
seq 1 20000 | awk '{ printf "*3\r\n$3\r\nSET\r\n$%d\r\nmass:%s\r\n$%d\r\n%s\r\n", 5 + length($1), $1, length($1), $1 }' |
    cli --pipe | grep -q 'errors: 0, replies: 20000'
[ "$(cli --scan --pattern 'mass:*' | sort -u | wc -l)" = 20000 ]
printf 'MULTI\nINCR n\nINCR n\nEXEC\n' | cli | tail -n 1 | grep -qx 2
printf "return redis.call('GET', KEYS[1]) .. ARGV[1]" >script.lua
is vw cli --eval script.lua k , w
cli --bigkeys | grep -q 'Biggest'
cli --memkeys | grep -q 'keys'

cli SUBSCRIBE news >heard &
listener=$!
until [ "$(cli PUBLISH news hello)" = 1 ]; do sleep 0.05; done
until grep -qx hello heard; do sleep 0.05; done
kill "$listener"
echo ok
