/* The commands of gridnode, a file each. */
#pragma once

struct session;

int cmd_diag(struct session *s);
int cmd_tcp(struct session *s);
int cmd_dns(struct session *s);
int cmd_tls(struct session *s);
int cmd_route(struct session *s);
int cmd_trace(struct session *s);
int cmd_probe(struct session *s);
int cmd_fetch(struct session *s);
int cmd_explain(struct session *s);
int cmd_run(struct session *s);
int cmd_status(struct session *s);
int cmd_events(struct session *s);
int cmd_register(struct session *s);
int cmd_renew(struct session *s);
int cmd_config(struct session *s);
int cmd_update(struct session *s);
