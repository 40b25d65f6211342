#!/bin/sh
# waportd from a shell: gives a user a server and writes the code to scan to a picture, unless a phone is linked.
#
#     sh client.sh 2 code.png
#
# Needs curl and jq, and to run as a user of group waportd.
set -eu

# As in a URL: jq encodes what is no letter or digit.
user=$(printf '%s' "$1" | jq --raw-input --raw-output @uri)
picture=$2

waportd() {
    curl --silent --show-error --fail-with-body --unix-socket "${WAPORTD_SOCKET:-/run/waportd/api.sock}" "$@"
}

# Returns when there is a code, or a phone is linked; says what is wrong otherwise.
waportd -X PUT "http://localhost/v1/users/$user?wait=qr" >/dev/null

case $(waportd "http://localhost/api/qr?user_id=$user") in
    *'"ready": true'* | *'"ready":true'*) echo "user $user: linked" ;;
    *) waportd "http://localhost/v1/users/$user/qr?format=png" --output "$picture" && echo "user $user: scan $picture" ;;
esac
