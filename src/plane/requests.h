/* Remote tools from the plane's side: each request's output is kept (1 MiB, 1 h after its end), read by as
 * many as like. A node that does not answer within its timeout and 10 s, or goes offline: END_LOST. */
#pragma once

#include "plane/broker.h"

struct requests; /* opaque */
struct requests *requests_new(sd_event *event, struct broker *broker, struct plane_store *store,
        void (*on_change)(const char *organisation, const char *request, void *userdata), void *userdata);
struct requests *requests_free(struct requests *r);
/* Writes the audit log, sends. -ENOTCONN: the node is not connected. -EBUSY: two run there already. */
int requests_start(struct requests *r, const struct actor *by, const struct plane_node *node,
        const char *tool, const struct strv *arguments, double timeout_s, int64_t now, char ret_id[65],
        struct error *e);
int requests_cancel(struct requests *r, const struct actor *by, const char *organisation, const char *id,
        int64_t now, struct error *e);
void requests_output(struct requests *r, const char *node, const char *id, const struct wire_output *o);
/* The broker had nobody to give it to. */
void requests_unheard(struct requests *r, const char *node, const char *id);
void requests_node_gone(struct requests *r, const char *node);
/* {"id","node","tool","arguments","by","state":"running"|"ended","end","status","error","lines":[{"stream","text"}],
 * "next":N}: lines from `first`. */
int requests_get(struct requests *r, const char *organisation, const char *id, int64_t first, json_t **ret,
        struct error *e);
size_t requests_running(const struct requests *r);
