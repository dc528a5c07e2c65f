# The control plane of a Trustgrid node, from Trustgrid's public documents. Its root certificate is not published:
# only the root's name can be compared, which an interceptor that forges that name would pass.
[profile]
name = trustgrid
ranges = 35.171.100.16/28;34.223.12.192/28
root-subject = O = TrustGrid Inc, CN = TrustGrid Root CA

[service repo]
host = repo.trustgrid.io
port = 443
tls = server
carries = updates;images;logs

[service keymaster]
host = keymaster.trustgrid.io
port = 443
tls = server
carries = registration

[service gatekeeper]
host = gatekeeper.trustgrid.io
port = 8443
tls = mutual
carries = config

[service zuul]
host = zuul.trustgrid.io
port = 8443
tls = mutual
carries = control
