# shellcheck shell=bash
# Certificates, made once and shared by all labs: a root, an intermediate, leaves; the same gone wrong; strangers.

pki_subject_config() {
        cat <<'CONF'
[ca]
default_ca = here
[here]
database = index
serial = serial
new_certs_dir = issued
default_md = sha256
policy = any
unique_subject = no
copy_extensions = none
[any]
organizationName = optional
commonName = supplied
[req]
distinguished_name = dn
[dn]
[ca_ext]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf_ext]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = ${ENV::SAN}
CONF
}

pki_day() { date -u -d "$1" +%Y%m%d%H%M%SZ; }

# One certificate NAME.crt with NAME.key, signed by ISSUER (itself when they are the same).
pki_issue() { # NAME ISSUER EXTENSIONS FROM UNTIL SUBJECT [SAN]
        local name=$1 issuer=$2 extensions=$3 from=$4 until=$5 subject=$6
        export SAN=${7:-DNS:none.invalid}
        [[ -e $name.key ]] || openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
        openssl req -new -config ca.conf -key "$name.key" -subj "$subject" -out "$name.csr"
        local self=()
        [[ $name == "$issuer" ]] && self=(-selfsign)
        [[ ${#self[@]} == 0 ]] && self=(-cert "$issuer.crt")
        openssl ca -batch -notext -config ca.conf "${self[@]}" -keyfile "$issuer.key" -in "$name.csr" -out "$name.crt" \
                -extensions "$extensions" -startdate "$(pki_day "$from")" -enddate "$(pki_day "$until")" 2>>openssl.log
        rm "$name.csr"
}

pki_make() { # in the folder to fill
        local n
        umask 077
        mkdir issued
        : >index
        echo 1000 >serial
        pki_subject_config >ca.conf
        pki_issue root root ca_ext '-1 day' '+10 years' '/O=Grid Example/CN=Grid Root CA'
        pki_issue intermediate root ca_ext '-1 day' '+5 years' '/O=Grid Example/CN=Grid Issuing CA'
        for n in repo control other; do
                pki_issue $n intermediate leaf_ext '-1 day' '+1 year' "/O=Grid Example/CN=$n.grid.example" \
                        "DNS:$n.grid.example"
                cat $n.crt intermediate.crt >$n.chain
        done
        pki_issue repo-expired intermediate leaf_ext '-20 hours' '-2 hours' '/O=Grid Example/CN=repo.grid.example' \
                DNS:repo.grid.example
        cat repo-expired.crt intermediate.crt >repo-expired.chain
        cp intermediate.key intermediate-expired.key
        pki_issue intermediate-expired root ca_ext '-20 hours' '-2 hours' '/O=Grid Example/CN=Grid Issuing CA'
        cat repo.crt intermediate-expired.crt >repo-intermediate-expired.chain
        cp repo.key repo-intermediate-expired.key
        pki_issue node intermediate leaf_ext '-1 day' '+1 year' '/O=Grid Example/CN=node-0001' DNS:node-0001.grid.example
        cat node.crt intermediate.crt >node.chain
        pki_issue node-expired intermediate leaf_ext '-20 hours' '-2 hours' '/O=Grid Example/CN=node-0001' \
                DNS:node-0001.grid.example
        cat node-expired.crt intermediate.crt >node-expired.chain
        pki_issue stranger stranger ca_ext '-1 day' '+5 years' '/O=Elsewhere/CN=Elsewhere CA'
        pki_issue node-stranger stranger leaf_ext '-1 day' '+1 year' '/O=Elsewhere/CN=node-0001' DNS:node-0001.grid.example
        cat node-stranger.crt stranger.crt >node-stranger.chain
        pki_issue sinkhole stranger leaf_ext '-1 day' '+1 year' '/O=Elsewhere/CN=blocked.elsewhere.example' \
                DNS:blocked.elsewhere.example
        cat sinkhole.crt stranger.crt >sinkhole.chain
        # What appliances sign with. sslsplit and squid want RSA for the certificates that they forge.
        pki_forger fortinet '/O=Fortinet/CN=Fortinet Untrusted CA'
        pki_forger paloalto '/O=Palo Alto Networks/CN=Palo Alto Networks Decryption CA'
        pki_forger zscaler '/O=Zscaler Inc./CN=Zscaler Intermediate Root CA'
        pki_forger acme '/O=ACME Corp/CN=ACME Inspection CA'
        cat root.crt intermediate.crt >client-ca.pem
        cp root.crt grid-root.pem
        chmod 644 ./*.crt ./*.chain ./*.pem
}

pki_forger() { # NAME SUBJECT
        openssl genrsa -out "$1.key" 2048 2>>openssl.log
        pki_issue "$1" "$1" ca_ext '-1 day' '+5 years' "$2"
        cat "$1.key" "$1.crt" >"$1.pem"
}

# Sets PKI to the folder with the certificates, making them when the recipe is new or they near their end.
pki_ready() {
        local recipe
        recipe=$(sha256sum "$LAB/lib/pki.sh" | cut -c1-16)
        PKI=$LAB_STATE/.shared/pki-$recipe
        mkdir -p "$LAB_STATE/.shared"
        exec {pki_lock}>"$LAB_STATE/.shared/lock"
        flock "$pki_lock"
        if [[ ! -e $PKI/repo.crt ]] || ! openssl x509 -checkend 2592000 -noout -in "$PKI/repo.crt" >/dev/null; then
                rm -rf "$PKI" "$PKI.new"
                mkdir "$PKI.new"
                (cd "$PKI.new" && pki_make) || die "the certificates could not be made; see $PKI.new/openssl.log"
                chmod 755 "$PKI.new"
                mv "$PKI.new" "$PKI"
        fi
        exec {pki_lock}>&-
}

# Sets WIRE and CLOCK: from the build folder, or compiled here once.
programs_ready() {
        local key folder
        if [[ -n ${LAB_BUILD:-} && -x $LAB_BUILD/wire ]]; then
                WIRE=$LAB_BUILD/wire CLOCK=$LAB_BUILD/clock.so
                return
        fi
        key=$(cat "$LAB/wire.c" "$LAB/clock.c" | sha256sum | cut -c1-16)
        folder=$LAB_STATE/.shared/bin-$key
        WIRE=$folder/wire CLOCK=$folder/clock.so
        [[ -x $WIRE && -e $CLOCK ]] && return
        mkdir -p "$folder"
        local flags=(-std=gnu17 -O2 -D_GNU_SOURCE -Wall -Wextra)
        "${CC:-cc}" "${flags[@]}" -o "$WIRE.$$" "$LAB/wire.c"
        "${CC:-cc}" "${flags[@]}" -shared -fPIC -o "$CLOCK.$$" "$LAB/clock.c"
        mv "$WIRE.$$" "$WIRE"
        mv "$CLOCK.$$" "$CLOCK"
}
