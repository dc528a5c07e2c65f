#!/usr/bin/python3
"""`gridnode fetch` against real servers and broken ways. test_transfer.py BUILD [NAME-PART...]

Each test has a name and addresses of its own at the server's side, so that they run side by side. Ends with the line
"N passed, N failed"."""

import concurrent.futures
import fcntl
import json
import os
import pathlib
import pty
import random
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from transfer_place import PROXY_PORT, RELAY_PORT, SILENT_PORT, Failed, Place, expect, run, wait_for

BIG, LONG, SMALL = 12_000_000, 36_000_000, 300_000
SIDE_BY_SIDE = 8
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def ended(process, timeout=40):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out.decode(), err.decode()


# ---- what works ----

@test
def whole_file_by_http2_and_by_1_1(place):
    for h1 in (False, True):
        site = place.site(h1=h1)
        done = site.fetch("/big", "--sha256", place.hashes["big"]).is_good("big")
        expect(done.end["way"] == 443 and done.end["fetched"] == BIG and done.end["attempts"] == 1, done)
        version = "HTTP/1.1" if h1 else "HTTP/2.0"
        expect(any("GET /big " + version in line for line in place.asked_of("GET /big ")), f"nothing was asked by {version}")


@test
def empty_file_and_file_in_the_present_folder(place):
    site = place.site()
    site.fetch("/empty", output="e").is_good("empty", "e")
    done = subprocess.run([str(w) for w in site.words("/small")[:-2]], cwd=site.out, capture_output=True, check=False, timeout=20)
    expect(done.returncode == 0, done.stderr)
    site.is_whole("small", "small")


@test
def node_certificate_is_offered(place):
    place.site().fetch("/node/small").is_good("small")


# ---- going on ----

@test
def goes_on_after_kill_at_random_points(place):
    site, seen, kills = place.site(), [], 0
    dice = random.Random(4)
    while True:
        process = site.begin("/slow/big", "--sha256", place.hashes["big"])
        try:
            process.wait(dice.uniform(0.1, 0.9) if kills < 15 else 60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            seen.append(site.size())
            expect(kills < 16, "it does not end:", seen)
            continue
        status, out, err = ended(process)
        break
    end = json.loads(out.splitlines()[-1])
    expect(status == 0 and kills >= 4, f"{kills} kills, status {status}", err)
    expect(seen == sorted(seen) and end["resumed"] >= seen[-1] > 0, "it began anew", seen, end)
    expect(end["fetched"] <= BIG - seen[-1], "bytes were fetched twice", seen, end)
    site.is_whole("big")


@test
def goes_on_without_a_hash_by_if_range(place):
    site = place.site()
    process = site.begin("/slow/big")
    wait_for("a part of it", lambda: site.size() > 2_000_000)
    process.kill()
    process.communicate()
    there = site.size()
    done = site.fetch("/slow/big").is_good("big")
    expect(done.end["resumed"] == there and done.end["fetched"] == BIG - there, there, done)


@test
def file_that_changed_at_the_server_is_begun_anew(place):
    site = place.site()
    place.file("changes", 6_000_000, "before")
    process = site.begin("/slow/changes")
    wait_for("a part of it", lambda: site.size() > 2_000_000)
    process.kill()
    process.communicate()
    time.sleep(1.1)  # nginx's ETag is of size and second
    place.file("changes", 6_000_000, "after")
    done = site.fetch("/slow/changes").is_good("changes")
    expect(done.end["fetched"] == 6_000_000 and done.end["resumed"] == 0, done)


@test
def all_there_but_for_the_name(place):
    """Killed between the last byte and the rename: nothing is fetched again (416)."""
    site = place.site()
    shutil.copy(place.www / "big", site.out / "file.part")
    done = site.fetch("/big", "--sha256", place.hashes["big"]).is_good("big")
    expect(done.end["fetched"] < 10_000, done)
    process = site.begin("/slow/small")
    ended(process)
    (site.out / "file").unlink()
    # Without a hash the validator is what vouches.
    process = site.begin("/slow/big")
    wait_for("a part of it", lambda: site.size() > 1_000_000)
    process.kill()
    process.communicate()
    shutil.copy(place.www / "big", site.out / "file.part")
    done = site.fetch("/slow/big").is_good("big")
    expect(done.end["fetched"] < 10_000, done)


@test
def wrong_part_is_found_by_the_hash_and_fetched_anew(place):
    site = place.site()
    (site.out / "file.part").write_bytes(b"x" * 5_000_000)
    site.fetch("/big", "--sha256", place.hashes["big"]).is_good("big")
    (site.out / "file").unlink()
    (site.out / "file.part").write_bytes(b"x" * (BIG + 5))  # longer than the server's: 416
    site.fetch("/big", "--sha256", place.hashes["big"]).is_good("big")
    (site.out / "file").unlink()
    (site.out / "file.part").write_bytes(b"x" * 1_000_000)  # nothing vouches for it
    done = site.fetch("/big").is_good("big")
    expect(done.end["resumed"] == 0, done)


@test
def cut_every_n_bytes(place):
    site = place.site(addresses=1, redirect=RELAY_PORT)
    place.relay.rules[site.addresses[0]] = ("cut", 700_000)
    done = site.fetch("/big", "--sha256", place.hashes["big"]).is_good("big")
    cuts = place.relay.cuts[site.addresses[0]]
    expect(cuts >= 15, f"{cuts} cuts")
    expect(done.end["fetched"] - BIG < BIG / 100, f"{done.end['fetched'] - BIG} bytes came twice", done)


@test
def power_cut_at_random_moments(place):
    """Copies of the folder while bytes move; each is restored, and the same command ends with the right file."""
    site, copies, dice = place.site(), [], random.Random(7)
    process = site.begin("/slow/big", "--sha256", place.hashes["big"])
    while process.poll() is None and len(copies) < 5:
        time.sleep(dice.uniform(0.1, 0.6))
        copy = site.folder / f"copy{len(copies)}"
        shutil.copytree(site.out, copy)
        copies.append(copy)
    process.kill()
    process.communicate()
    expect(len(copies) >= 4, "too few copies")
    for number, copy in enumerate(copies):
        shutil.rmtree(site.out)
        shutil.copytree(copy, site.out)
        part = site.out / "file.part"
        if number % 2 and part.exists():
            # Of a former boot: what fsync may not have reached is zeros.
            size = part.stat().st_size
            with open(part, "r+b") as f:
                f.seek(max(0, size - 300_000))
                f.write(bytes(min(size, 300_000)))
            os.utime(part, (1_000_000_000, 1_000_000_000))
        site.fetch("/big", "--sha256", place.hashes["big"]).is_good("big")


@test
def interrupted_and_gone_on_with(place):
    for number in (signal.SIGINT, signal.SIGTERM):
        site = place.site()
        process = site.begin("/slow/big", "--sha256", place.hashes["big"])
        wait_for("a part of it", lambda s=site: s.size() > 1_000_000)
        process.send_signal(number)
        status, _, _ = ended(process)
        expect(status == 128 + number, f"status {status}")
        there = site.size()
        done = site.fetch("/big", "--sha256", place.hashes["big"]).is_good("big")
        expect(done.end["resumed"] == there, there, done)


# ---- servers ----

@test
def whole_answer_in_place_of_a_range(place):
    site = place.site()
    process = site.begin("/whole/big", "--sha256", place.hashes["big"])
    wait_for("a part of it", lambda: site.size() > 1_000_000)
    process.kill()
    process.communicate()
    done = site.fetch("/whole/big", "--sha256", place.hashes["big"]).is_good("big")
    expect(done.end["fetched"] == BIG and done.end["resumed"] == 0, done)


@test
def wrong_hash_three_times_is_the_end(place):
    site = place.site()
    begun = time.monotonic()
    done = site.fetch("/small", "--sha256", "0" * 64).fails(1, "SHA-256", "0" * 64, place.hashes["small"], site.host)
    expect(time.monotonic() - begun < 12, "it took too long")
    expect(not (site.out / "file").exists(), "the wrong file was handed on")
    expect(len(place.asked_of("GET /small ")) >= 3, done)


@test
def permanent_errors_end_at_once(place):
    site = place.site()
    for path, status, *words in (("/none", 404, "no such file"), ("/forbidden/x", 403, "registered"),
                                 ("/elsewhere/x", 302, "other.grid.example", "redirect")):
        begun = time.monotonic()
        site.fetch(path).fails(1, f"status {status}", site.host, path, *words)
        expect(time.monotonic() - begun < 5, f"{path}: {time.monotonic() - begun:.1f} s")
        expect(not (site.out / "file").exists(), "a file was made of it")


@test
def busy_server_gets_the_patience_it_asks_for(place):
    site, flag = place.site(), place.folder / "is-busy"
    flag.touch()
    process = site.begin("/busy/small")
    begun = time.monotonic()
    wait_for("a first refusal", lambda: place.asked_of("GET /busy/small"))
    flag.unlink()
    status, out, err = ended(process)
    took = time.monotonic() - begun
    expect(status == 0 and 2.5 < took < 8, f"status {status} after {took:.1f} s", err)
    waited = [json.loads(line) for line in out.splitlines() if '"waiting"' in line]
    expect(any("503" in w["waits_for"] and "3 s of patience" in w["waits_for"] for w in waited), waited)
    done = site.fetch("/many/small", "-t", "4")
    done.fails(69, "429", site.host)


@test
def silent_server_is_left_for_another_address(place):
    site = place.site()
    site.redirect(SILENT_PORT, site.addresses[0])
    begun = time.monotonic()
    done = site.fetch("/small", timeout=40).is_good("small")
    expect(time.monotonic() - begun < 20 and done.end["address"].startswith(site.addresses[1]), time.monotonic() - begun, done)


@test
def drip_is_left_for_what_is_faster(place):
    site = place.site()
    done = site.fetch("/drip/small", "-t", "5").fails(69, site.host)
    expect("waits" not in done.err, done)
    begun = time.monotonic()
    done = site.fetch("/drip/small", timeout=90).fails(69, site.host, "slower than")
    expect(time.monotonic() - begun < 80, time.monotonic() - begun)


@test
def address_that_dies_in_the_midst(place):
    """One of two drops from a moment on: what is there stays, the other one goes on."""
    site = place.site(transfer="fallback = none")
    for address in site.addresses:
        site.redirect(RELAY_PORT, address)
    place.relay.rules[site.addresses[0]] = ("silent", 2_000_000)
    place.relay.rules[site.addresses[1]] = ("cut", 1 << 60)
    done = site.fetch("/big", "--sha256", place.hashes["big"], timeout=80).is_good("big")
    expect(done.end["address"].startswith(site.addresses[1]), done)
    if place.relay.cuts.get(site.addresses[0]):
        expect(done.end["fetched"] < BIG + 200_000, done)


# ---- ways ----

@test
def dropped_443_goes_by_8443_and_back(place):
    site = place.site()
    site.block()
    process = site.begin("/slow/long", "--sha256", place.hashes["long"])
    wait_for("bytes by 8443", lambda: site.size() > 1_000_000, 20)
    site.unblock()
    status, out, err = ended(process)
    ways = [json.loads(line)["way"] for line in out.splitlines() if '"moving"' in line]
    end = json.loads(out.splitlines()[-1])
    expect(status == 0 and 8443 in ways, ways, err)
    expect(end["way"] == 443 and ways[-1] == 443, "it did not return to 443 by itself", ways)
    expect(end["fetched"] < LONG + 500_000, "it was fetched again", end)
    site.is_whole("long")


@test
def everything_blocked_names_all_of_it(place):
    site = place.site()
    site.block("drop", 443)
    site.block("reject with tcp reset", 8443)
    done = site.fetch("/small", "-t", "8").fails(69, site.host, *site.addresses, "443 at", "8443 at", "no answer to SYN", "efused",
                                                 "gridnode diag")
    expect(done.err.count("no answer to SYN") == 1, "what failed alike is told together", done)


@test
def without_fallback_it_waits_and_says_why(place):
    site = place.site(transfer="fallback = none")
    site.block()
    site.write_ways("failed", "443 to it is dropped after 192.0.2.1", "tcp.dropped")
    process = site.begin("/small")
    time.sleep(7)
    expect(process.poll() is None, "it gave up")
    expect(not place.asked_of("8443"), "it went by 8443")
    site.unblock()
    begun = time.monotonic()
    site.write_ways("ok")
    status, out, err = ended(process)
    took = time.monotonic() - begun
    expect(status == 0, err)
    # The attempt that is under way when the way opens may see its own end first.
    expect(took < 3.5, f"it took {took:.1f} s after the way was open")
    waits = [json.loads(line)["waits_for"] for line in out.splitlines() if '"waiting"' in line]
    expect(any(w and w.startswith("443 to it is dropped after 192.0.2.1 (") for w in waits), waits)
    site.is_whole("small")


@test
def retried_the_moment_that_the_way_is_told_open(place):
    site = place.site(transfer="fallback = none")
    site.block("reject with tcp reset")
    site.write_ways("failed", "refused", "tcp.refused")
    process = site.begin("/small")
    time.sleep(9)  # by now, waits are long
    site.unblock()
    begun = time.monotonic()
    site.write_ways("ok")
    status, _, err = ended(process)
    expect(status == 0 and time.monotonic() - begun < 2.5, time.monotonic() - begun, err)


@test
def dead_address_costs_little(place):
    site = place.site(transfer="fallback = none")
    site.block(addresses=site.addresses[:1])
    begun = time.monotonic()
    site.fetch("/small").is_good("small")
    expect(time.monotonic() - begun < 3, f"{time.monotonic() - begun:.1f} s")


@test
def dead_dns_but_known_addresses(place):
    probe = place.site(addresses=2)
    site = place.site(dns="198.51.100.54", known=probe.addresses)
    begun = time.monotonic()
    site.fetch("/small").is_good("small")
    expect(time.monotonic() - begun < 4, f"{time.monotonic() - begun:.1f} s")
    nowhere = place.site(dns="198.51.100.54")
    nowhere.fetch("/small", "-t", "10").fails(69, nowhere.host, "198.51.100.54", "looked up")
    no_name = place.site(resolve=[])
    no_name.fetch("/small", "-t", "4").fails(69, no_name.host, "198.51.100.53")


@test
def by_a_proxy(place):
    site = place.site(wan=f"proxy = http://192.0.2.1:{PROXY_PORT}")
    site.fetch("/big", "--sha256", place.hashes["big"]).is_good("big")
    site.fetch("/none").fails(1, "404", "by the proxy")
    nobody = place.site(wan="proxy = http://192.0.2.1:3999")
    nobody.fetch("/small", "-t", "3").fails(69, "192.0.2.1:3999")


@test
def thirty_percent_loss(place):
    site = place.site(transfer="fallback = none")
    for address in site.addresses:
        place.nft(f"add rule ip t f ip daddr {address} numgen random mod 100 < 30 drop")
        place.nft(f"add rule ip t o ip saddr {address} numgen random mod 100 < 30 drop")
    site.fetch("/tiny", "--sha256", place.hashes["tiny"], timeout=80).is_good("tiny")


@test
def someone_in_between(place):
    """Another root's certificate: no byte is taken, and it is said."""
    site = place.site()
    folder = place.folder / "stranger"
    folder.mkdir()
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 9, "-subj",
        "/CN=Interceptor", "-addext", f"subjectAltName=DNS:{site.host}", "-keyout", folder / "key", "-out", folder / "crt")
    place.start(place.server, "openssl", "s_server", "-quiet", "-accept", 9555, "-cert", folder / "crt", "-key", folder / "key", "-www",
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    place.await_port(9555)
    site.redirect(9555)
    site.block(port=8443)
    site.fetch("/small", "-t", "8").fails(69, "tls", "Interceptor", "pinned root")
    expect(site.size() == 0, "something was written")


# ---- the disk ----

@test
def full_disk_ends_at_once_and_goes_on_later(place):
    site = place.site()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "none", site.out)
    try:
        begun = time.monotonic()
        site.fetch("/big", "--sha256", place.hashes["big"]).fails(1, "file.part", "No space left", "make room")
        expect(time.monotonic() - begun < 5, time.monotonic() - begun)
        there = site.size()
        run("mount", "-o", "remount,size=40m", site.out)
        done = site.fetch("/big", "--sha256", place.hashes["big"]).is_good("big")
        expect(done.end["resumed"] >= there > 3_000_000, there, done)
    finally:
        run("umount", site.out)


@test
def files_that_cannot_be_written(place):
    site = place.site()
    site.fetch("/small", output="no/such/file").fails(1, "no/such/file.part", "No such file")
    (site.out / "link.part").symlink_to("/etc/hostname")
    site.fetch("/small", output="link").fails(1, "symbolic link")
    os.mkfifo(site.out / "pipe.part")
    site.fetch("/small", output="pipe").fails(1, "regular file")
    (site.out / "folder").mkdir()
    site.fetch("/small?x=1", output="folder")
    site.is_whole("small", "folder/small")
    process = site.begin("/slow/big")
    wait_for("a part of it", lambda: site.size() > 500_000)
    site.fetch("/slow/big").fails(1, "another transfer")
    status, _, err = ended(process)
    expect(status == 0, err)


# ---- the budget ----

@test
def limit_is_kept_by_several_processes(place):
    site = place.site(transfer="limit = 8Mbit/s")
    (site.folder / "run/gridnode/budget").unlink(missing_ok=True)
    begun = time.monotonic()
    processes = [site.begin("/mid", output=f"f{i}") for i in range(3)]
    for process in processes:
        status, _, err = ended(process)
        expect(status == 0, err)
    took = time.monotonic() - begun
    rate = 3 * 3_000_000 / took
    expect(0.85e6 < rate < 1.10e6, f"{rate / 1e6:.3f} MB/s in place of 1.000")
    for i in range(3):
        site.is_whole("mid", f"f{i}")


# ---- telling ----

@test
def bar_on_a_terminal(place):
    for colour in ({}, {"NO_COLOR": "1"}):
        site = place.site()
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        process = subprocess.Popen([str(w) for w in site.words("/slow/mid")], stdin=slave, stdout=slave, stderr=slave,
                                   env=dict(os.environ, TERM="xterm", **colour))
        os.close(slave)
        text = b""
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:
                break
            if not data:
                break
            text += data
        os.close(master)
        expect(process.wait(20) == 0, text)
        for word in (b"[", b"#", b"%", b"MB", b"/s", b"by 443", b"file"):
            expect(word in text, f"{word} is missing in {text[-2000:]}")
        expect(b"\x1b[3" not in text or not colour, "NO_COLOR: colours")
        expect(text.count(b"\n") <= 3, "the bar is one line", text)


@test
def lines_of_json_and_silence_in_a_pipe(place):
    site = place.site()
    done = site.fetch("/slow/mid", "--sha256", place.hashes["mid"]).is_good("mid")
    states = [line["state"] for line in done.lines]
    expect(states[0] == "connecting" and "moving" in states and states[-1] == "done", states)
    expect(all(a["bytes"] <= b["bytes"] for a, b in zip(done.lines, done.lines[1:])), "bytes go backwards")
    expect(done.end["sha256"] == place.hashes["mid"], done)
    quiet = subprocess.run([str(w) for w in site.words("/small", output="q")], capture_output=True, check=False, timeout=20)
    expect(quiet.returncode == 0 and quiet.stderr == b"", quiet)


@test
def wrong_use(place):
    site = place.site()
    site.fetch("small").fails(64, "/debian")
    site.fetch("/small", "--sha256", "12").fails(1, "SHA-256")
    site.fetch("/a b").fails(1, "/a b")


# ---- all of it ----

def start_proxy(place):
    conf = place.folder / "squid.conf"
    folder = place.folder / "squid"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    conf.write_text(f"http_port {PROXY_PORT}\nhttp_access allow all\ncache deny all\npid_filename {folder}/pid\naccess_log none\n"
                    f"cache_log {folder}/log\ncoredump_dir {folder}\ndns_nameservers 198.51.100.53\nshutdown_lifetime 0 seconds\n"
                    f"visible_hostname proxy\nconnect_timeout 3 seconds\n")
    with open(folder / "start", "wb") as log:
        place.start(place.server, "squid", "-N", "-n", f"hj{os.getpid()}", "-f", conf, stdout=log, stderr=log)
    place.await_port(PROXY_PORT)


def drive(place, function):
    begun = time.monotonic()
    try:
        function(place)
        return function, None, time.monotonic() - begun
    except (Failed, AssertionError, OSError, subprocess.SubprocessError, ValueError, KeyError, IndexError):
        return function, traceback.format_exc(), time.monotonic() - begun


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    chosen = [t for t in TESTS if not sys.argv[2:] or any(part in t.__name__ for part in sys.argv[2:])]
    # The longest first.
    slow = ("drip", "dies", "loss", "blocked", "dns", "kill")
    chosen.sort(key=lambda t: min([i for i, s in enumerate(slow) if s in t.__name__], default=len(slow)))
    failed = 0
    with Place(pathlib.Path(sys.argv[1]) / "src/cli/gridnode", "hj") as place:
        for name, size in (("big", BIG), ("long", LONG), ("mid", 3_000_000), ("small", SMALL), ("tiny", 60_000), ("empty", 0)):
            place.file(name, size)
        start_proxy(place)
        with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            for function, trouble, took in pool.map(lambda t: drive(place, t), chosen):
                failed += trouble is not None
                print(f"{'FAILED' if trouble else 'ok    '} {function.__name__.replace('_', ' ')} ({took:.1f} s)", flush=True)
                if trouble:
                    print(trouble, flush=True)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
