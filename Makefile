# A thin front: Meson and Ninja do the work. `make help` lists what there is.

BUILD ?= build
GUESTS ?= .cache/guests
# What a Xen machine boots from.
DOM0 ?= .cache/xen
# Which tests run there: arguments of pytest's.
XEN_TESTS ?=
# Its part of `make check`, where the driver can be built.
XEN := $(if $(filter x86_64,$(shell uname -m)),xen)
PREFIX ?= /usr/local
MESON_FLAGS ?=
# As root already there is nothing to ask sudo for.
SUDO ?= $(if $(filter-out 0,$(shell id -u)),sudo)

# What `make check` runs. Suites are those of meson test; the second list's make namespaces of
# all kinds, start the system scope's daemon and act as several users, so they run as root.
SUITES ?= unit fuzz
ROOT_SUITES ?= root daemon system
# Checks that are not meson tests (other builds, linters): each a script that fails or does not.
STEPS ?= $(sort $(wildcard tests/ci/[0-9]*.sh))
# One that hangs is ended; each meson test has a timeout of its own.
STEP_TIMEOUT ?= 15m
BENCHMARK ?= tests/bench/run

# Where the tests find things.
export DEBMARSHAL_BUILD := $(abspath $(BUILD))
export DEBMARSHAL_GUESTS := $(abspath $(GUESTS))
# For tests that write junit files, and for what .ci/run counts.
export DEBMARSHAL_RESULTS := $(abspath $(BUILD))/results

MESON_TEST = meson test -C $(BUILD) --no-rebuild --print-errorlogs
# Debian's meson, not one of another Python's that comes first on some paths.
# A user may have no sbin there, where mkfs and losetup are.
export PATH := /usr/bin:$(PATH):/usr/sbin:/sbin

.NOTPARALLEL:
.PHONY: all demo check check-quick check-suites check-root check-steps check-xen xen-machine run-xen $(STEPS) bench bench-xen install clean help

## all          build debmarshal (the default)
all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/install-deps.sh build
	meson setup $(MESON_FLAGS) --prefix=$(PREFIX) --sysconfdir=/etc $(BUILD)

## demo         install what is missing, build, and let two guests talk
demo:
	@scripts/install-deps.sh demo
	@$(MAKE) --no-print-directory all
	@scripts/guest-image.sh $(GUESTS)
	@scripts/prepare-host.sh
	scripts/demo.sh $(BUILD) $(GUESTS)

## check        install what is missing, build, and run every test
check:
	@scripts/install-deps.sh test $(XEN)
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@meson configure $(BUILD) -Dtests=enabled $(XEN:%=-D%=enabled)
	@$(MAKE) --no-print-directory all
	@scripts/guest-image.sh --arch amd64 $(GUESTS)
	@scripts/guest-image.sh --arch arm64 $(GUESTS)
	@scripts/prepare-host.sh
	@rm -rf $(BUILD)/results $(BUILD)/meson-logs/testlog* && mkdir -p $(BUILD)/results
	@$(MAKE) --no-print-directory --keep-going check-suites check-root check-steps $(XEN:%=run-%)

## check-quick  build and run the unit tests alone
check-quick: all
	$(MESON_TEST) --suite unit

check-suites:
	scripts/unchroot $(MESON_TEST) $(SUITES:%=--suite %)

# As root it writes into the build directory, which stays its owner's.
check-root:
	@$(SUDO) $(if $(SUDO),env PATH=$(PATH) $(foreach v,BUILD GUESTS RESULTS,DEBMARSHAL_$v=$(DEBMARSHAL_$v))) \
		scripts/unchroot $(MESON_TEST) --logbase testlog-root $(ROOT_SUITES:%=--suite %); \
	status=$$?; \
	$(if $(SUDO),$(SUDO) chown -R "$$(id -u):$$(id -g)" $(BUILD);) \
	exit $$status

check-steps: $(STEPS)

$(STEPS):
	@echo "== $@"; \
	if scripts/unchroot timeout --kill-after=30 $(STEP_TIMEOUT) bash $@; then result=passed; else result=failed; fi; \
	mkdir -p $(BUILD)/results && echo "$$result $@" >>$(BUILD)/results/steps; \
	echo "== $@ $$result"; \
	[ $$result = passed ]

## check-xen    boot Xen in QEMU, and run the tests of the Xen driver in it
check-xen: xen-machine
	@$(MAKE) --no-print-directory run-xen

xen-machine:
	@scripts/install-deps.sh xen
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@meson configure $(BUILD) -Dtests=enabled -Dxen=enabled
	@$(MAKE) --no-print-directory all
	@scripts/guest-image.sh --arch amd64 $(GUESTS)

run-xen:
	@mkdir -p $(BUILD)/results; rm -f $(BUILD)/results/xen*; \
	if tests/xen/check.sh $(DOM0) $(GUESTS) $(BUILD) $(BUILD)/xen $(XEN_TESTS); then result=passed; else result=failed; fi; \
	echo "$$result xen" >>$(BUILD)/results/steps; \
	[ $$result = passed ]

## bench        measure debmarshal against its floor and against libvirt
bench:
	@scripts/install-deps.sh bench
	@$(MAKE) --no-print-directory all
	@scripts/guest-image.sh $(GUESTS)
	@scripts/prepare-host.sh
	scripts/unchroot $(BENCHMARK)

## bench-xen    measure the Xen driver against xl, in Xen in QEMU
bench-xen: xen-machine
	tests/xen/dom0.sh $(DOM0)
	tests/xen/run.sh --suite tests/xen/bench-suite --seconds 1800 $(DOM0) $(GUESTS) $(BUILD) $(BUILD)/xen/bench

## install      install into PREFIX (/usr/local), below DESTDIR if set
install: $(BUILD)/build.ninja
	@meson configure $(BUILD) -Dprefix=$(PREFIX) -Dsysconfdir=/etc
	ninja -C $(BUILD)
	meson install -C $(BUILD) --no-rebuild

## clean        remove what was built, and the guest images
clean:
	rm -rf $(BUILD) $(GUESTS)

## help         this list
help:
	@sed -n 's/^## /  make /p' Makefile
