"""Certificates that a node of this control plane does not have, and how one with them is met."""

import datetime
import pathlib
import subprocess

from . import mqtt


class Credentials:
    def __init__(self, certificate, key):
        self.certificate, self.key = pathlib.Path(certificate), pathlib.Path(key)


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def new_key(path):
    openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", path)
    return path


def self_signed(folder, name, subject, is_authority=False):
    key, certificate = new_key(folder / f"{name}.key"), folder / f"{name}.crt"
    extension = ["-addext", f"basicConstraints=critical,CA:{'TRUE' if is_authority else 'FALSE'}"]
    openssl("req", "-x509", "-new", "-key", key, "-subj", subject, "-days", "10", *extension, "-out", certificate)
    return Credentials(certificate, key)


def signed(folder, name, subject, authority, usage="clientAuth", days=(-1, 10), chain=b""):
    """A leaf of `authority` that is in force from and to so many days from now."""
    key, request, certificate = new_key(folder / f"{name}.key"), folder / f"{name}.csr", folder / f"{name}.crt"
    settings = folder / f"{name}.conf"
    settings.write_text(
        f"[ca]\ndefault_ca = d\n[d]\nnew_certs_dir = {folder}\ndatabase = {folder}/{name}.index\nrand_serial = yes\n"
        "default_md = sha256\npolicy = p\nunique_subject = no\nemail_in_dn = no\n[p]\n"
        "organizationName = optional\ncommonName = supplied\n"
        f"[e]\nbasicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\nextendedKeyUsage = {usage}\n"
        "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n")
    (folder / f"{name}.index").write_text("")
    openssl("req", "-new", "-key", key, "-subj", subject, "-out", request)
    now = datetime.datetime.now(datetime.timezone.utc)
    begin, end = ((now + datetime.timedelta(days=day)).strftime("%Y%m%d%H%M%SZ") for day in days)
    openssl("ca", "-batch", "-config", settings, "-extensions", "e", "-cert", authority.certificate, "-keyfile", authority.key,
            "-startdate", begin, "-enddate", end, "-in", request, "-notext", "-preserveDN", "-out", certificate)
    certificate.write_bytes(certificate.read_bytes() + chain)
    return Credentials(certificate, key)


def mqtt_refusal(site, credentials, client="n-x"):
    """'' when the broker lets one in with them, else how it refused."""
    try:
        connection = mqtt.Client(mqtt.tls_socket(site, credentials and credentials.certificate, credentials and credentials.key))
    except OSError as error:
        return f"TLS: {error}"
    try:
        connection.open(client)
        connection.listen(0.3)
        return ""
    except (OSError, TypeError) as error:
        return f"MQTT: {error}"
    finally:
        connection.close()
