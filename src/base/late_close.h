/* Descriptors whose close() blocks: that of a packet socket waits for an RCU grace period, 8 to 16 ms and
 * more on a busy machine (net/packet/af_packet.c, synchronize_net). A command that has told all it has to
 * tell need not keep its caller waiting for that. */
#pragma once

/* From now on late_close() keeps descriptors for late_close_finish(). For programs that end soon; a service
 * that does not call it closes at once. */
void late_close_enable(void);
/* Takes the descriptor, which hears nothing that anybody needs any more. */
void late_close(int fd);
/* Right before the process ends: leaves what was kept to a child, which holds no other descriptor and ends as
 * soon as they are closed. Without a child to be had, the kernel closes them as the process ends. */
void late_close_finish(void);
