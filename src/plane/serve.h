/* gridplane serve: puts the parts together and runs until SIGTERM. */
#pragma once

#include "plane/settings.h"

int serve_run(struct plane_settings *s); /* an exit status */
