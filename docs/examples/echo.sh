#!/bin/sh
# An echo bot in a shell: answers each text that a person writes with the same text.
#
#     export WEBHOOK_SECRET=whsec_…
#     systemd-socket-activate --inetd --accept --listen=127.0.0.1:5002 -E WEBHOOK_SECRET -E PATH sh echo.sh
#
# One run is one request, from standard input. Needs curl, jq and coreutils. In waportd's configuration,
# instances.webhook_url is http://127.0.0.1:5002/webhook, instances.webhook_secret the same secret, and ports.reserved
# names 5002.
set -eu

done=${DONE:-done}
folder=$(mktemp --directory)
trap 'rm -r "$folder"' EXIT

answer() {
    printf 'HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' "$1"
    exit 0
}

# The request: its first line, its headers, its body as it came.
id='' time='' signatures='' length=0 cr=$(printf '\r')
read -r _
while read -r line; do
    line=${line%"$cr"}
    [ -n "$line" ] || break
    value=${line#*: }
    case $(printf %s "${line%%:*}" | tr '[:upper:]' '[:lower:]') in
        webhook-id) id=$value ;;
        webhook-timestamp) time=$value ;;
        webhook-signature) signatures=$value ;;
        content-length) length=$value ;;
    esac
done
case $id in '' | *[!A-Za-z0-9_-]*) answer '401 Unauthorized' ;; esac
[ "${#id}" -le 64 ] || answer '401 Unauthorized'
case $time in '' | *[!0-9]*) answer '401 Unauthorized' ;; esac
case $length in '' | *[!0-9]* | ????????*) answer '413 Content Too Large' ;; esac
# dd, as a shell's own read and head's buffer would take more or less than it.
dd bs=1 count="$length" of="$folder/body" 2>/dev/null

# HMAC-SHA256 by its definition: as an argument of a program everybody could read the key.
padded() {
    printf %s "$1" | base64 --decode | od -An -v -tu1 | tr -s ' \n' '\n\n' | {
        count=0
        while read -r byte; do
            [ -n "$byte" ] || continue
            printf "\\$(printf %o $((byte ^ $2)))"
            count=$((count + 1))
        done
        while [ "$count" -lt 64 ]; do
            printf "\\$(printf %o "$2")"
            count=$((count + 1))
        done
    }
}
bytes() {
    while read -r pair; do printf "\\$(printf %o "0x$pair")"; done
}
hash() { sha256sum | cut -c 1-64 | fold -w 2 | bytes; }

signed=false
IFS=,
for secret in $WEBHOOK_SECRET; do
    key=${secret#whsec_}
    { padded "$key" 54; printf '%s.%s.' "$id" "$time"; cat "$folder/body"; } | hash >"$folder/inner"
    wanted=v1,$({ padded "$key" 92; cat "$folder/inner"; } | hash | base64)
    case " $signatures " in *" $wanted "*) signed=true ;; esac
done
unset IFS
age=$(($(date +%s) - time))
[ "$signed" = true ] && [ "${age#-}" -lt 300 ] || answer '401 Unauthorized'

# Events that are done, one file each: the same can come again.
mkdir -p "$done"
[ ! -e "$done/$id" ] || answer '200 OK'
wanted='select(.event == "message" and .chat.type == "person" and .body != "")'
jq --compact-output "$wanted | {to: .chat.id, text: .body}" "$folder/body" >"$folder/message"
if [ -s "$folder/message" ]; then
    port=$(jq .port "$folder/body")
    # The key has it sent once, though this may run again for the same event.
    curl --silent --show-error --fail --max-time 20 --output /dev/null --header 'Content-Type: application/json' \
        --header "Idempotency-Key: echo-$id" --data "@$folder/message" "http://localhost:$port/messages" ||
        answer '503 Service Unavailable'
fi
: >"$done/$id"
answer '200 OK'
