/* Without systemd there is nobody but the daemon to start a helper, and the daemon has given up the right to:
 * so what it starts, while it is still root, is this. It keeps one helper running and does nothing else: it
 * reads no message, and holds no end of a helper's connection. */
#pragma once

/* Starts a helper (with `root`, NULL: none), gives the daemon a connection to it over `fd` (SOCK_SEQPACKET; a
 * byte with the descriptor, SCM_RIGHTS, unix(7)), and the same anew, with backoff, when that helper has
 * ended. Returns when the daemon has gone, after the helper has ended what it was at; an exit status. Killed
 * itself, it leaves the helper that runs: it serves the daemon until that goes. */
int supervise(int fd, const char *root);
