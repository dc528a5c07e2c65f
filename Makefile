# Each target first sees to the Debian packages that it needs (packages.txt).
BUILD ?= build
PREFIX ?= /usr/local
FAULT ?= drop-443
FUZZ_SECONDS ?= 60

.PHONY: build run check bench fuzz format install clean packages

build: packages
	@tools/build $(BUILD)

# The main job, with real parts in the lab. lab/lab list names the faults.
run: build
	@tools/run $(BUILD) $(FAULT)

check: packages
	@tools/check

# PARTS="idle swarm" measures these alone; bench/system --help names them.
bench: packages
ifdef PARTS
	@bench/system $(PARTS)
else
	@status=0; bench/bench || status=1; bench/system || status=1; exit $$status
endif

fuzz: packages
	@tools/fuzz build-fuzz $(FUZZ_SECONDS)

format: packages
	@git ls-files --cached --others --exclude-standard '*.c' '*.h' | xargs clang-format-14 -i

install: packages
	@tools/build $(BUILD) --prefix=$(PREFIX) -Dsysconfdir=/etc
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild --quiet

clean:
	rm -rf $(BUILD) build-check build-fuzz build-bench

packages:
	@tools/packages
