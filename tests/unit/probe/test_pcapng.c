#include "probe/pcapng.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

static char path[] = "/tmp/test_pcapng.XXXXXX";

static int set_up(void **state)
{
        int fd = mkstemp(path);

        (void)state;
        assert_true(fd >= 0);
        close(fd);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        return unlink(path);
}

static pcap_t *open_with_libpcap(void)
{
        char message[PCAP_ERRBUF_SIZE] = "";
        pcap_t *reader = pcap_open_offline_with_tstamp_precision(path, PCAP_TSTAMP_PRECISION_NANO, message);

        if (!reader)
                fail_msg("libpcap: %s", message);
        return reader;
}

static void test_header_alone_is_a_file(void **state)
{
        struct pcapng *f = NULL;
        struct pcap_pkthdr *header;
        const u_char *data;
        struct stat st;
        struct error e;

        (void)state;
        assert_int_equal(pcapng_open(path, 256, &f, &e), 0);
        assert_int_equal(stat(path, &st), 0); /* written before the first packet */
        assert_true(st.st_size >= 28);
        assert_int_equal(pcapng_finish(f, &e), 0);
        assert_int_equal(pcapng_finish(f, &e), 0);
        pcapng_add(f, &(struct pcapng_packet){.interface = ""}); /* too late, and no harm */
        assert_null(pcapng_free(f));
        assert_null(pcapng_free(NULL));
        /* libpcap wants an interface in every file, Wireshark does not. */
        pcap_t *reader = pcap_open_offline(path, (char[PCAP_ERRBUF_SIZE]){0});
        if (reader) {
                assert_true(pcap_next_ex(reader, &header, &data) < 0);
                pcap_close(reader);
        }
}

static void test_packets_come_back(void **state)
{
        static const int64_t start_ns = 1795230000123456789;
        struct pcapng *f = NULL;
        struct pcap_pkthdr *header;
        const u_char *data;
        uint8_t bytes[256];
        struct error e;

        (void)state;
        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (uint8_t)i;
        assert_int_equal(pcapng_open(path, 100, &f, &e), 0);
        for (int i = 0; i < 200; i++) /* odd lengths, three interfaces, some longer than the snap length */
                pcapng_add(f, &(struct pcapng_packet){.ifindex = i % 3 + 1,
                                      .interface = i % 3 ? "eth0" : "",
                                      .outgoing = i % 2,
                                      .unix_ns = start_ns + i,
                                      .data = bytes,
                                      .captured = (size_t)i,
                                      .original = (size_t)i + 1000});
        assert_int_equal(pcapng_finish(f, &e), 0);
        pcapng_free(f);

        pcap_t *reader = open_with_libpcap();
        assert_int_equal(pcap_datalink(reader), DLT_LINUX_SLL2);
        for (int i = 0; i < 200; i++) {
                assert_int_equal(pcap_next_ex(reader, &header, &data), 1);
                assert_int_equal(header->caplen, i < 100 ? i : 100);
                assert_int_equal(header->len, i + 1000);
                assert_memory_equal(data, bytes, header->caplen);
                assert_int_equal(header->ts.tv_sec, start_ns / 1000000000);
                assert_int_equal(header->ts.tv_usec, start_ns % 1000000000 + i);
        }
        assert_int_equal(pcap_next_ex(reader, &header, &data), PCAP_ERROR_BREAK);
        pcap_close(reader);
}

static void test_more_interfaces_than_there_is_room_for(void **state)
{
        struct pcapng *f = NULL;
        struct pcap_pkthdr *header;
        const u_char *data;
        struct error e;
        int count = 0;

        (void)state;
        assert_int_equal(pcapng_open(path, 100, &f, &e), 0);
        for (int i = 1; i <= 300; i++)
                pcapng_add(f, &(struct pcapng_packet){.ifindex = i,
                                      .interface = "veth0",
                                      .data = (const uint8_t *)"12345",
                                      .captured = 5,
                                      .original = 5});
        assert_int_equal(pcapng_finish(f, &e), 0);
        pcapng_free(f);
        pcap_t *reader = open_with_libpcap();
        while (pcap_next_ex(reader, &header, &data) == 1)
                count++;
        assert_int_equal(count, 64);
        pcap_close(reader);
}

static void test_files_that_cannot_be_written(void **state)
{
        struct pcapng *f = NULL;
        struct error e = {0};

        (void)state;
        assert_int_equal(pcapng_open("/nonexistent/x.pcapng", 256, &f, &e), -ENOENT);
        assert_non_null(strstr(e.text, "/nonexistent/x.pcapng"));
        assert_null(f);
        assert_int_equal(pcapng_open("/tmp", 256, &f, &e), -EISDIR);
        assert_int_equal(pcapng_open("/dev/full", 256, &f, &e), -ENOSPC);
        assert_non_null(strstr(e.text, "/dev/full"));
        assert_null(f);
}

/* A disk that fills up later is told at the end; a limit on the file's size does for a full disk. */
static void test_disk_that_fills_up(void **state)
{
        struct rlimit before, small = {.rlim_cur = 8192};
        struct pcapng *f = NULL;
        uint8_t bytes[200] = {0};
        struct error e = {0};

        (void)state;
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        small.rlim_max = before.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_int_equal(pcapng_open(path, 256, &f, &e), 0);
        for (int i = 0; i < 200; i++)
                pcapng_add(f, &(struct pcapng_packet){.ifindex = 1,
                                      .interface = "eth0",
                                      .data = bytes,
                                      .captured = sizeof(bytes),
                                      .original = sizeof(bytes)});
        assert_int_equal(pcapng_finish(f, &e), -EFBIG);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_non_null(strstr(e.text, path));
        pcapng_free(f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_header_alone_is_a_file),
                cmocka_unit_test(test_packets_come_back),
                cmocka_unit_test(test_more_interfaces_than_there_is_room_for),
                cmocka_unit_test(test_files_that_cannot_be_written),
                cmocka_unit_test(test_disk_that_fills_up),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
