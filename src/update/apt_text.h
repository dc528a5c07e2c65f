/* What apt-get prints, line by line, in LC_ALL=C: pure parsers (apt-get(8), and apt's
 * README.progress-reporting for Status-Fd). Lines are NUL-terminated, without their end, of any content. */
#pragma once

#include "wire/update.h"

#include <stdbool.h>
#include <stdint.h>

/* "Inst gridnode [0.1.0] (0.2.0 gridnode:stable [amd64])" of `apt-get -s`. Without [..]: a new one. */
bool apt_text_change(const char *line, struct update_package *ret);

/* "'gridnode://repo.grid.example/debian/pool/…/x.deb' x_1_amd64.deb 18304 SHA256:…" of --print-uris: what is
 * still to be fetched. */
struct apt_file {
        char uri[512], file[256]; /* file: a plain name */
        uint64_t bytes;
};
bool apt_text_file(const char *line, struct apt_file *ret);

/* "Need to get 18.3 kB/20 kB of archives." and "After this operation, 38.9 kB of additional disk space will
 * be used." (or "… disk space will be freed.": negative). */
bool apt_text_space(const char *line, int64_t *ret_bytes);

enum apt_status_kind { APT_STATUS_DOWNLOAD, APT_STATUS_INSTALL, APT_STATUS_ERROR, APT_STATUS_CONFFILE };
struct apt_status {
        enum apt_status_kind kind;
        char package[96]; /* of a download: its number */
        double percent;   /* 0 to 100 */
        char text[256];
};
/* "pmstatus:gridnode:50.0000:Unpacking gridnode (amd64)". */
bool apt_text_status(const char *line, struct apt_status *ret);

/* Why a run failed, by its complaints; the later in this list decides. */
enum apt_failure {
        APT_FAILURE_NONE,
        APT_FAILURE_OTHER,
        APT_FAILURE_WAY,         /* nothing came, or not whole: retrying mends it once the way is open */
        APT_FAILURE_DIED,        /* apt's method was ended by somebody */
        APT_FAILURE_LOOK_UP,     /* of these, what failed at the name */
        APT_FAILURE_LOCK,        /* another process has apt's or dpkg's lock */
        APT_FAILURE_METHOD,      /* apt's method for gridnode:// is not installed */
        APT_FAILURE_REFUSED,     /* 401, 403: this node has no right to it */
        APT_FAILURE_NOT_FOUND,   /* 404, or no such suite, or no such package */
        APT_FAILURE_HASH,        /* not the bytes that the signed index names */
        APT_FAILURE_EXPIRED,     /* the Release file is too old: or the clock is wrong */
        APT_FAILURE_EARLY,       /* the Release file is not valid yet: the clock is wrong */
        APT_FAILURE_SIGNATURE,   /* not signed, or by nobody whom we trust */
        APT_FAILURE_DEPENDS,     /* what it needs is not to be had */
        APT_FAILURE_DISK,        /* full */
        APT_FAILURE_INTERRUPTED, /* dpkg was, and wants to be configured */
        APT_FAILURE_DPKG,        /* a maintainer script, a conffile, an archive that cannot be unpacked */
};
const char *apt_failure_to_string(enum apt_failure f); /* a stable code: "apt.signature" */
bool apt_failure_is_permanent(enum apt_failure f);

/* {0} at the beginning of a run. */
struct apt_complaints {
        enum apt_failure failure;
        char text[512]; /* of the first complaint of that kind, without "E: Failed to fetch URI" */
        bool after_err; /* the line before was "Err:…", whose reason follows */
};
void apt_complaints_take(struct apt_complaints *c, const char *line);
