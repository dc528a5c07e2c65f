#include "probe/pcapng.h"

#include "base/alloc.h"
#include "base/version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
        BLOCK_SECTION = 0x0a0d0d0a,
        BLOCK_INTERFACE = 1,
        BLOCK_PACKET = 6,
        BYTE_ORDER_MAGIC = 0x1a2b3c4d,
        OPTION_END = 0,
        OPTION_IF_NAME = 2,
        OPTION_IF_TSRESOL = 9,
        OPTION_EPB_FLAGS = 2,
        OPTION_SHB_USERAPPL = 4,
        LINKTYPE_SLL2 = 276,
        DIRECTION_INBOUND = 1,
        DIRECTION_OUTBOUND = 2,
        NANOSECONDS = 9,    /* if_tsresol: 10^-9 */
        MAX_INTERFACES = 64 /* packets of further interfaces are left out */
};

struct pcapng {
        FILE *file; /* NULL once finished */
        char *path;
        int error_number; /* the first one */
        uint32_t snaplen;
        int interfaces[MAX_INTERFACES]; /* ifindex by interface number */
        uint32_t interface_count;
};

/* One block on its way to the file. The largest is a packet: its data are bounded by the snap length. */
struct block {
        uint8_t bytes[1024];
        size_t length;
};

static void put(struct block *b, const void *data, size_t length)
{
        size_t padded = (length + 3) & ~(size_t)3;

        if (b->length + padded > sizeof(b->bytes))
                abort();
        memcpy(b->bytes + b->length, data, length);
        memset(b->bytes + b->length + length, 0, padded - length);
        b->length += padded;
}

/* In this machine's byte order, as the magic number tells the reader. */
static void put_u32(struct block *b, uint32_t v)
{
        put(b, &v, sizeof(v));
}

static void put_u16_pair(struct block *b, uint16_t first, uint16_t second)
{
        uint16_t pair[] = {first, second};

        put(b, pair, sizeof(pair));
}

static void put_option(struct block *b, uint16_t code, const void *data, size_t length)
{
        put_u16_pair(b, code, (uint16_t)length);
        put(b, data, length);
}

static void begin(struct block *b, uint32_t type)
{
        b->length = 0;
        put_u32(b, type);
        put_u32(b, 0); /* the length, set by end_and_write */
}

static void end_and_write(struct pcapng *f, struct block *b)
{
        uint32_t total = (uint32_t)b->length + 4;

        put_u32(b, total);
        memcpy(b->bytes + 4, &total, sizeof(total));
        if (f->error_number == 0 && fwrite(b->bytes, 1, b->length, f->file) != b->length)
                f->error_number = errno ? errno : EIO;
}

static void add_section(struct pcapng *f)
{
        static const char application[] = "gridnode " GRIDNODE_VERSION;
        struct block b;

        begin(&b, BLOCK_SECTION);
        put_u32(&b, BYTE_ORDER_MAGIC);
        put_u16_pair(&b, 1, 0);  /* version 1.0 */
        put_u32(&b, UINT32_MAX); /* section length: not told */
        put_u32(&b, UINT32_MAX);
        put_option(&b, OPTION_SHB_USERAPPL, application, sizeof(application) - 1);
        put_option(&b, OPTION_END, "", 0);
        end_and_write(f, &b);
}

static void add_interface(struct pcapng *f, const char *name)
{
        const uint8_t resolution = NANOSECONDS;
        struct block b;

        begin(&b, BLOCK_INTERFACE);
        put_u16_pair(&b, LINKTYPE_SLL2, 0);
        put_u32(&b, f->snaplen);
        if (name[0])
                put_option(&b, OPTION_IF_NAME, name, strnlen(name, 64));
        put_option(&b, OPTION_IF_TSRESOL, &resolution, sizeof(resolution));
        put_option(&b, OPTION_END, "", 0);
        end_and_write(f, &b);
}

static int interface_number(struct pcapng *f, const struct pcapng_packet *p, uint32_t *ret)
{
        for (uint32_t i = 0; i < f->interface_count; i++)
                if (f->interfaces[i] == p->ifindex) {
                        *ret = i;
                        return 0;
                }
        if (f->interface_count == MAX_INTERFACES)
                return -ENOSPC;
        add_interface(f, p->interface);
        f->interfaces[f->interface_count] = p->ifindex;
        *ret = f->interface_count++;
        return 0;
}

int pcapng_open(const char *path, uint32_t snaplen, struct pcapng **ret, struct error *ret_error)
{
        struct pcapng *f;
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
        FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;

        if (!file) {
                int number = errno;

                if (fd >= 0)
                        close(fd);
                return error_set(ret_error, number, "capture.file", "cannot write the capture file %s: %s",
                        path, strerror(number));
        }
        f = xcalloc(1, sizeof(*f));
        f->file = file;
        f->path = xstrdup(path);
        f->snaplen = snaplen;
        add_section(f);
        if (f->error_number == 0 && fflush(f->file) != 0)
                f->error_number = errno;
        if (f->error_number) {
                int r = pcapng_finish(f, ret_error);

                pcapng_free(f);
                return r;
        }
        *ret = f;
        return 0;
}

void pcapng_add(struct pcapng *f, const struct pcapng_packet *p)
{
        uint64_t time = (uint64_t)p->unix_ns;
        uint32_t flags = p->outgoing ? DIRECTION_OUTBOUND : DIRECTION_INBOUND, number;
        size_t captured = p->captured < f->snaplen ? p->captured : f->snaplen;
        struct block b;

        if (!f->file || interface_number(f, p, &number) < 0)
                return;
        if (captured > sizeof(b.bytes) / 2)
                captured = sizeof(b.bytes) / 2;
        begin(&b, BLOCK_PACKET);
        put_u32(&b, number);
        put_u32(&b, (uint32_t)(time >> 32));
        put_u32(&b, (uint32_t)time);
        put_u32(&b, (uint32_t)captured);
        put_u32(&b, (uint32_t)p->original);
        put(&b, p->data, captured);
        put_option(&b, OPTION_EPB_FLAGS, &flags, sizeof(flags));
        put_option(&b, OPTION_END, "", 0);
        end_and_write(f, &b);
}

int pcapng_finish(struct pcapng *f, struct error *ret_error)
{
        if (f->file && fclose(f->file) != 0 && f->error_number == 0)
                f->error_number = errno;
        f->file = NULL;
        if (f->error_number)
                return error_set(ret_error, f->error_number, "capture.file",
                        "cannot write the capture file %s: %s", f->path, strerror(f->error_number));
        return 0;
}

struct pcapng *pcapng_free(struct pcapng *f)
{
        if (!f)
                return NULL;
        pcapng_finish(f, NULL);
        free(f->path);
        free(f);
        return NULL;
}
