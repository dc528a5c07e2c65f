/* The commands of gridplane, a file for each kind of record. */
#pragma once

struct session;

int cmd_serve(struct session *s);
int cmd_check(struct session *s);
int cmd_node_create(struct session *s);
int cmd_node_token(struct session *s);
int cmd_node_list(struct session *s);
int cmd_node_show(struct session *s);
int cmd_node_remove(struct session *s);
int cmd_node_config(struct session *s);
int cmd_node_tool(struct session *s);
int cmd_node_tag(struct session *s);
int cmd_node_update(struct session *s);
int cmd_update_list(struct session *s);
int cmd_update_show(struct session *s);
int cmd_upgrade_plan(struct session *s);
int cmd_upgrade_dry_run(struct session *s);
int cmd_upgrade_start(struct session *s);
int cmd_upgrade_pause(struct session *s);
int cmd_upgrade_resume(struct session *s);
int cmd_upgrade_cancel(struct session *s);
int cmd_upgrade_retry(struct session *s);
int cmd_upgrade_status(struct session *s);
int cmd_upgrade_export(struct session *s);
int cmd_event_list(struct session *s);
int cmd_report_list(struct session *s);
int cmd_report_show(struct session *s);
int cmd_incident_list(struct session *s);
int cmd_user_add(struct session *s);
int cmd_user_list(struct session *s);
int cmd_user_password(struct session *s);
int cmd_user_remove(struct session *s);
int cmd_token_add(struct session *s);
int cmd_token_list(struct session *s);
int cmd_token_remove(struct session *s);
int cmd_org_add(struct session *s);
int cmd_org_list(struct session *s);
int cmd_audit_list(struct session *s);
int cmd_package_add(struct session *s);
int cmd_package_remove(struct session *s);
int cmd_package_list(struct session *s);
int cmd_package_promote(struct session *s);
int cmd_package_key(struct session *s);
