/* Who re-signs TLS: products that put their own name into the certificates that they make. The table is
 * data/interceptors.tsv, turned into C when this is built. */
#pragma once

/* `name` is a subject or issuer in one line. The product, static, or NULL when the name is nobody's that is
 * known. */
const char *interceptor_name(const char *name);
