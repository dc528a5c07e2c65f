/* What mqtt.c wants to know of the context that mqtt_tls_context() (net/mqtt.h) makes. */
#pragma once

#include <openssl/ssl.h>

/* Why the last handshake did not verify the peer; NULL: it did, or the context is another one. Borrowed. */
const char *mqtt_tls_problem(const SSL_CTX *c);
