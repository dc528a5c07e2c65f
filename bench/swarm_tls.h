/* One TLS context for each simulated node, made once; see swarm_tls.c. */
#pragma once

#include "net/mqtt.h"

void swarm_tls_done(void);
