# shellcheck shell=bash
# Proofs: each `check` runs a measurement with an ordinary tool in the background and compares what it says with a
# pattern; `settle` waits for those begun so far; proof_end prints all of them and fails when one did not match.

proof_begin() {
        PROOF=$(mktemp -d)
        PROOFS=0
        # shellcheck disable=SC2064 # the folder of this proof
        trap "rm -rf '$PROOF'; limit_icmp" EXIT
        # Proofs must not use up what the routers' ICMP limits leave to the program under test (icmp(7), 6 at once and
        # then one a second for each receiver).
        local role
        for role in fw r2; do aside set_sysctl "$role" net.ipv4.icmp_ratemask=0; done
        together
}

limit_icmp() {
        local role
        for role in fw r2; do set_sysctl "$role" net.ipv4.icmp_ratemask=6168 2>/dev/null || true; done
}

check() { # WANTED-PATTERN COMMAND…
        local file wanted=$1
        shift
        PROOFS=$((PROOFS + 1))
        file=$(printf '%s/%03d' "$PROOF" $PROOFS)
        aside check_one "$file" "$wanted" "$@"
}

check_one() {
        local file=$1 wanted=$2 said
        shift 2
        said=$("$@" 2>&1) || true
        if [[ $said =~ $wanted ]]; then
                printf 'ok    %s: %s\n' "$*" "${said//$'\n'/; }" >"$file"
        else
                printf 'FAIL  %s: %s (wanted: %s)\n' "$*" "${said//$'\n'/; }" "$wanted" >"$file"
        fi
}

settle() { together || true; }

proof_end() {
        settle
        cat "$PROOF"/[0-9]*
        ! grep -q '^FAIL' "$PROOF"/[0-9]*
}

# --- measurements: each prints one line ----------------------------------------------------------------------------------

tcp() { # ADDRESS PORT [SECONDS]: open, silent, refused, unreachable
        local said
        said=$(in_ns node nc -nvz -w"${3:-1}" "$1" "$2" 2>&1) || true
        case $said in
        *succeeded*) echo open ;;
        *'timed out'*) echo silent ;;
        *refused*) echo refused ;;
        *'No route'* | *unreachable*) echo "unreachable ($said)" ;;
        *) echo "$said" ;;
        esac
}

dns() { # SERVER udp|tcp [NAME]: "NOERROR 198.51.100.20 203.0.113.200", "NXDOMAIN", silent, refused
        local said how=+notcp status
        [[ $2 == udp ]] || how=+tcp
        said=$(in_ns node dig -b "$NODE" @"$1" "${3:-repo.grid.example}" A $how +time=1 +tries=1 +nocookie 2>&1) || true
        status=$(sed -nE 's/.*status: ([A-Z]+).*/\1/p' <<<"$said")
        case $said in
        *refused*) [[ -n $status ]] || status=refused ;;
        *'timed out'* | *'no servers could be reached'*) [[ -n $status ]] || status=silent ;;
        esac
        [[ -n $status ]] || status=$said
        echo "$status" "$(awk '$4 == "A" && !/^;/ { print $5 }' <<<"$said" | sort | paste -sd' ')"
}

tls() { # ADDRESS PORT NAME [OPTION…]: how verifying ended and who signed, silent, reset, or what is no TLS
        local said r=0 address=$1 port=$2 name=$3 CRT KEY
        shift 3
        node_identity
        said=$(in_ns node timeout "${TLS_SECONDS:-2}" openssl s_client -connect "$address:$port" -servername "$name" \
                -verify_hostname "$name" -CAfile "$S/node/grid-root.pem" \
                ${CRT:+-cert "$CRT" -key "$KEY" -cert_chain "$CRT"} "$@" </dev/null 2>&1) || r=$?
        if [[ $said == *'BEGIN CERTIFICATE'* ]]; then
                sed -nE 's/^Verification( error)?: (.*)/\2/p; s/^ *[0-9]* *i:(.*)/issuer \1/p' <<<"$said" | sort -u | paste -sd'|'
        elif ((r == 124)); then
                echo silent
        elif [[ $said == *'errno=104'* || $said == *'errno=0'* || $said == *'unexpected eof'* ]]; then
                echo cut
        elif [[ $said == *'wrong version number'* || $said == *'packet length too long'* ]]; then
                echo 'not TLS'
        else
                tail -n 3 <<<"$said" | paste -sd' '
        fi
}

http() { # ADDRESS PORT NAME [PATH [OPTION…]]: "STATUS, BYTES bytes, curl CODE"
        local address=$1 port=$2 name=$3 path=${4:-/.well-known/gridnode} CRT KEY
        node_identity
        shift $(($# < 4 ? 3 : 4))
        in_ns node curl -sS -m "${HTTP_SECONDS:-2}" -o /dev/null --interface eth0 --noproxy '*' \
                --resolve "$name:$port:$address" --cacert "$S/node/grid-root.pem" \
                ${CRT:+--cert "$CRT" --key "$KEY"} -w '%{http_code}, %{size_download} bytes, curl %{exitcode} %{errormsg} %{redirect_url}' \
                "$@" "https://$name:$port$path" 2>/dev/null || true
}

plain() { # ADDRESS PORT: the first line that comes back for a plain HTTP request
        printf 'GET / HTTP/1.0\r\nHost: repo.grid.example\r\n\r\n' |
                in_ns node timeout 2 nc -n -w1 "$1" "$2" | head -n 12 | tr -d '\r' | paste -sd' ' || true
}

proxy() { # PROXY NAME PORT ADDRESS: what CONNECT through it says
        local CRT KEY
        node_identity
        in_ns node curl -sS -m 3 -o /dev/null -p -x "$1" --cacert "$S/node/grid-root.pem" \
                ${CRT:+--cert "$CRT" --key "$KEY"} -w '%{http_connect} %{http_code} curl %{exitcode}' \
                "https://$2:$3/.well-known/gridnode" 2>/dev/null || true
}

# What comes back at the node for one SYN: an ICMP error with its sender, or an RST with its TTL.
refusal() { # ADDRESS PORT
        local log
        log=$(mktemp "$PROOF/tcpdump.XXXXXX.log")
        in_ns node timeout 4 tcpdump -lnvi eth0 --immediate-mode -c 1 \
                "dst $NODE and (icmp[icmptype] == icmp-unreach or (tcp[tcpflags] & tcp-rst != 0 and src $1 and src port $2))" \
                >"$log" 2>&1 &
        local pid=$! tries
        for ((tries = 0; tries < 100; tries++)); do
                grep -q 'listening on' "$log" && break
                sleep 0.02
        done
        for ((tries = 0; tries < 3; tries++)); do
                tcp "$1" "$2" >/dev/null
                sleep 0.05
                [[ $(wc -l <"$log") -lt 3 ]] || break # something came: two lines are tcpdump's own
        done
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        local said
        said=$(paste -sd' ' "$log")
        rm "$log"
        if [[ $said =~ ([0-9.]+)\ \>\ $NODE:\ ICMP\ (.*unreachable[^,]*) ]]; then
                echo "icmp from ${BASH_REMATCH[1]}: ${BASH_REMATCH[2]}"
        elif [[ $said =~ ttl\ ([0-9]+).*Flags\ \[R ]]; then
                echo "rst ttl ${BASH_REMATCH[1]}"
        else
                echo silence
        fi
}

# How many packets of a kind the node's wire sees in the time that the other checks of a proof take.
seen() { # IFACE FILTER
        in_ns node timeout 1.5 tcpdump -lnni "$1" --immediate-mode "$2" 2>/dev/null | grep -cE ' > |ARP' || true
}
SYN_ACK='tcp[tcpflags] & (tcp-syn|tcp-ack) == (tcp-syn|tcp-ack)'

# The way the kernel would take: "dev eth1 via 10.20.0.1"
way() { # ADDRESS [OPTION…]
        local said
        said=$(ip -n "$(ns node)" route get "$1" from "$NODE" "${@:2}" 2>&1) || true
        if [[ $said =~ via\ ([0-9.]+)\ dev\ ([a-z0-9]+)(\ table\ [0-9]+)? ]]; then
                echo "dev ${BASH_REMATCH[2]} via ${BASH_REMATCH[1]}${BASH_REMATCH[3]}"
        else
                paste -sd' ' <<<"$said"
        fi
}

# Who answers ARP on the WAN segment; -D asks as a stranger would, for an address of our own (RFC 5227).
arp() { # ADDRESS [-D]
        local said
        said=$(in_ns node arping -f -c 1 -w 1 -I eth0 "${@:2}" "$1" 2>&1) || true
        [[ $said =~ \[([0-9A-Fa-f:]+)\] ]] && echo "${BASH_REMATCH[1],,}" || echo nobody
}

links() { ip -n "$(ns node)" -br "$@"; }
says_nft() { in_ns "$1" nft list ruleset; }
site_file_says() { grep -E "$1" "$S/node/site.conf" "$S/node/grid.profile" || echo nothing; }

# --- what several proofs share -------------------------------------------------------------------------------------------

both() { # WANTED REPO|CONTROL PORT
        local -n addresses=$2
        local a
        for a in "${addresses[@]}"; do check "$1" tcp "$a" "$3"; done
}

both_dns() { # WANTED TRANSPORT
        local a
        for a in "${DNS[@]}"; do check "$1" dns "$a" "$2"; done
}

RIGHT='^NOERROR 198.51.100.20 203.0.113.200$'

prove_healthy() {
        local a
        both '^open$' REPO 443
        both '^open$' REPO 8443
        both '^open$' CONTROL 443
        both '^open$' CONTROL 8443
        both_dns "$RIGHT" udp
        both_dns "$RIGHT" tcp
        for a in "${REPO[@]}"; do
                check '(^|\|)OK' tls "$a" 443 repo.grid.example
                check '^200' http "$a" 443 repo.grid.example
                check '^200, 262144' http "$a" 443 repo.grid.example '/.well-known/gridnode/payload?bytes=262144'
        done
        for a in "${CONTROL[@]}"; do check '^200' http "$a" 8443 control.grid.example; done
}
